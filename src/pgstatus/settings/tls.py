"""The TLS context of the HTTP server. PostgreSQL connections are configured through libpq."""

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

    def no_passphrase() -> str:
        raise OSError("the key has a passphrase; expected a key without one")

    context.load_cert_chain(certificate, key, no_passphrase)
    context.options |= ssl.OP_NO_RENEGOTIATION
    if client_ca is not None:
        # Not CERT_REQUIRED: health probes need no certificate (see `api.access`).
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
