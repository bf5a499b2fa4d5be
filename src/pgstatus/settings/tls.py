"""TLS contexts of the HTTP server, and of connections to other servers. Those to PostgreSQL are
configured through libpq.
"""

import ssl
from pathlib import Path

from pgstatus.settings.files import read_file


def server_context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """The context of a server. OSError (of which ``ssl.SSLError`` is one) with the reason.

    All files are PEM: the certificate of this service followed by intermediate certificates, its
    key, and the authorities of client certificates (None: clients need no certificate).
    """
    for file in filter(None, (certificate, key, client_ca)):
        read_file(file)  # OpenSSL would block on a FIFO
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
    context.load_cert_chain(certificate, key, _no_passphrase)
    context.options |= ssl.OP_NO_RENEGOTIATION
    if client_ca is not None:
        # Not CERT_REQUIRED: health probes need no certificate (see `api.access`).
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(ca: Path | None, certificate: tuple[Path, Path] | None) -> ssl.SSLContext:
    """The context of a client. OSError (of which ``ssl.SSLError`` is one) with the reason.

    ``ca``: the authorities of the server's certificate (None: those of the system);
    ``certificate``: that of this client, and its key.
    """
    for file in filter(None, (ca, *(certificate or ()))):
        read_file(file)  # OpenSSL would block on a FIFO
    context = ssl.create_default_context(cafile=ca)
    if certificate is not None:
        context.load_cert_chain(*certificate, _no_passphrase)
    return context


def _no_passphrase() -> str:
    raise OSError("the key has a passphrase; expected a key without one")
