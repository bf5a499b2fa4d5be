"""The TLS context of the HTTP server. PostgreSQL connections are configured through libpq."""

import ssl
from pathlib import Path


def server_context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """How we encrypt. OSError (``ssl.SSLError`` is one): the files are of no use, and why.

    All three are PEM: our certificate and the intermediate ones behind it, its key, and those who
    sign the certificates of clients (None: they need none).
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)

    def no_password() -> str:
        raise OSError("the key is protected by a password, which nobody is here to type")

    context.load_cert_chain(certificate, key, no_password)
    context.options |= ssl.OP_NO_RENEGOTIATION
    if client_ca is not None:
        # Not CERT_REQUIRED: the probes are open to all (see `api.access`).
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
