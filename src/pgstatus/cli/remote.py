"""A running pg-status, as the command line asks it: over TCP, TLS or a socket in the file system.

Python's own HTTP client is enough for one question, and the health check of a container, which
uses this too, then needs neither curl nor a shell.
"""

import http.client
import socket
import ssl
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from pgstatus.errors import StartError, UnreachableError
from pgstatus.settings.load import Settings

# Seconds. Whoever probes (Docker: --timeout=3s) wants the reason before it gives up itself.
_PATIENCE, _PATIENCE_OF_PROBES = 5.0, 2.0
_EXPECTED = "expected http://host:port, https://host:port or unix:/path"
# A server that listens everywhere is asked on the loopback address of the same family.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: str

    @property
    def is_good(self) -> bool:
        return self.status == http.client.OK


@dataclass(frozen=True, slots=True)
class Instance:
    """Where it is, and how to be let in."""

    url: str
    """``http://host:port``, ``https://…`` or ``unix:/path``."""
    token: str | None = field(default=None, repr=False)
    context: ssl.SSLContext | None = None
    """For https."""
    patience: float = _PATIENCE
    """Seconds for a connection, and for any part of an answer."""

    @classmethod
    def of(cls, settings: Settings) -> "Instance":
        """The one on this machine that runs with these settings."""
        token = settings.tokens[0].decode() if settings.tokens else None
        address = _LOOPBACK.get(settings.listen_address, settings.listen_address)
        url = replace(settings, listen_address=address).url
        if settings.tls_certificate is None or url.startswith("unix:"):
            return cls(url, token)
        # Its name is not that of this address. That it is ours and not somebody else's who has
        # taken the port, its certificate says: nothing but that very one is believed.
        context = ssl.create_default_context(cafile=settings.tls_certificate)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return cls(url, token, context)

    def probe(self, path: str) -> Answer:
        """Ask what everybody may ask: without a token, and whatever certificate it has.

        A renewed certificate on the disk that was not loaded yet makes nobody ill.
        """
        context = None
        if self.context is not None:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return Instance(self.url, None, context, _PATIENCE_OF_PROBES).get(path)

    def get(self, path: str, accept: str = "*/*") -> Answer:
        """Ask it. UnreachableError where nothing that talks HTTP is there."""
        headers = {"Accept": accept}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = self._connection()
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.read().decode(errors="replace"))
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise UnreachableError(f"no answer from {self.url}: {error}") from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise StartError(f"{self.url!r}: {_EXPECTED}") from None
        if parts.scheme == "unix" and parts.path.startswith("/"):
            return _UnixConnection(parts.path, self.patience)
        if host and parts.path in {"", "/"}:
            if parts.scheme == "https":
                return http.client.HTTPSConnection(
                    host, port, timeout=self.patience, context=self.context
                )
            if parts.scheme == "http":
                return http.client.HTTPConnection(host, port, timeout=self.patience)
        raise StartError(f"{self.url!r}: {_EXPECTED}")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, patience: float) -> None:
        super().__init__("localhost", timeout=patience)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
