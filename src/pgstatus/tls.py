"""HTTPS: the certificate that clients see, and whose certificates we ask for.

``ssl`` is imported by what asyncio and gunicorn need anyway. Source: RFC 8446 (TLS 1.3); PostgreSQL
connections are libpq's business and have nothing to do with this.
"""

import ssl
from pathlib import Path

from pgstatus.poller import READ, WRITE


def server_context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """How we encrypt. OSError (``ssl.SSLError`` is one): the files are of no use, and why.

    All three are PEM: our certificate and the intermediate ones behind it, its key, and those who
    sign the certificates of clients (None: they need none).
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)

    def no_password() -> str:
        raise OSError("the key is protected by a password, which nobody is here to type")

    context.load_cert_chain(certificate, key, no_password)
    if client_ca is not None:
        # Not CERT_REQUIRED: the probes are open to all (see `api.access`).
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class TlsSocket:
    """A TLS connection that blocks as a plain socket does that never blocks: `BlockingIOError`."""

    __slots__ = ("_sock", "fileno", "shutdown")

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self.fileno = sock.fileno
        self.shutdown = sock.shutdown

    def shake_hands(self) -> int:
        """Go on with the handshake: what to wait for, READ or WRITE; 0: it is done. OSError."""
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            return READ
        except ssl.SSLWantWriteError:
            return WRITE
        return 0

    @property
    def has_certificate(self) -> bool:
        """The client has shown one, and it is good."""
        return bool(self._sock.getpeercert())

    def recv(self, size: int) -> bytes:
        try:
            return self._sock.recv(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def send(self, data: bytes | memoryview) -> int:
        try:
            return self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def close(self) -> None:
        self._sock.close()
