"""Where an upstream pg-status listens, and how to access it."""

import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Address:
    """The address of one upstream."""

    name: str
    """As configured: ``http://w1:8000``, ``https://w1:8000/c/orders``, ``unix:/run/w1.sock``."""
    host: str
    """A path for a Unix-domain socket."""
    port: int
    path: str = ""
    """The prefix of all paths: empty, or ``/c/orders``."""
    tls: ssl.SSLContext | None = None
    token: bytes | None = field(default=None, repr=False)

    @property
    def is_tls(self) -> bool:
        return self.name.lower().startswith("https:")

    @property
    def authority(self) -> str:
        """The ``Host`` header."""
        if self.host.startswith("/"):
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(url: str) -> Address:
    """The address that a URL names; ValueError with what was expected."""
    if url.startswith("unix:"):
        path = url.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise ValueError("expected unix: and an absolute path")
        return Address(url, path, 0)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("expected a valid URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("expected http://host:port, https://host:port or unix:/path")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("expected a URL without user, query and fragment")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError("expected a URL of printable ASCII characters")
    path = parts.path.rstrip("/")
    if path and not path.startswith("/c/"):
        raise ValueError("expected a URL without a path, or with /c/NAME for one of many clusters")
    default = 443 if parts.scheme == "https" else 80
    return Address(url, parts.hostname, port or default, path)
