"""Where pg-status is, and with which credentials it is asked. Read once, when a client is created.

No error message and no representation contains the token or the user name and password of a URL.
"""

import os
import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpcore2

FilePath = str | os.PathLike[str]
_EXPECTED = "expected http://host:port, https://host:port or unix:/path"
# The name of the socket must end in ".sock", because a directory of another may be named "c".
_SOCKET_OF_CLUSTER = re.compile(r"(.+\.sock)(/c/[^/]+)/?")
# What pg-status accepts in its token file.
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Tls:
    """The TLS options of a client: a context, or the files to make one of."""

    context: ssl.SSLContext | None = None
    ca: FilePath | None = None
    cert: FilePath | None = None
    key: FilePath | None = None
    server_name: str | None = None

    def is_set(self) -> bool:
        return any((self.context, self.ca, self.cert, self.key, self.server_name))

    def load(self) -> ssl.SSLContext:
        """The context. OSError: a file cannot be read. ValueError: contradictory options."""
        if self.context is not None:
            if self.ca or self.cert or self.key:
                raise ValueError("ssl_context excludes ca, cert and key")
            return self.context
        if self.key is not None and self.cert is None:
            raise ValueError("key requires cert")
        context = (
            httpcore2.default_ssl_context()
            if self.ca is None
            else ssl.create_default_context(cafile=self.ca)
        )
        if self.cert is not None:
            # A password is not asked for on the terminal: the handshake must not wait for it.
            context.load_cert_chain(self.cert, self.key, password=_no_password)
        return context


def _no_password() -> str:
    raise ValueError("the key of the client certificate has a password: expected one without")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address, the headers of each request, and the TLS context."""

    origin: str
    """The URL that paths are appended to."""
    uds: str | None
    """The path of the Unix domain socket."""
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    ssl_context: ssl.SSLContext | None
    server_name: str | None
    """The name in the server's certificate, if it is not the host of the URL."""

    def headers_for(self, content_type: str) -> list[tuple[str, str]]:
        """The headers of a request for another content type than JSON."""
        return [("Accept", content_type), *(each for each in self.headers if each[0] != "Accept")]

    @classmethod
    def parse(cls, url: str, token: str | None, tls: Tls) -> "Endpoint":
        """``http(s)://host[:port][/prefix]`` or ``unix:/path``, either for one of several clusters
        with ``/c/NAME`` at the end. ValueError: neither.
        """
        headers = [("Accept", "application/json"), ("User-Agent", "pg-status-client")]
        if token is not None:
            headers.append(("Authorization", f"Bearer {_checked(token)}"))
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"invalid URL ({error}): {_EXPECTED}") from None
        if "@" in url:
            raise ValueError(f"the URL must not contain a user name or a password: {_EXPECTED}")
        if parts.query or parts.fragment:
            raise ValueError(f"invalid URL {url!r}: {_EXPECTED}")
        if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
            headers.append(("Host", "localhost"))
            scheme = "https" if tls.is_set() else "http"
            socket, cluster = _of_cluster(parts.path)
            origin, uds = f"{scheme}://localhost{cluster}", socket
        elif parts.scheme in {"http", "https"} and host:
            headers.append(("Host", parts.netloc))
            scheme, origin, uds = parts.scheme, url.rstrip("/"), None
        else:
            raise ValueError(f"invalid URL {url!r}: {_EXPECTED}")
        if scheme == "http" and tls.is_set():
            raise ValueError(f"TLS options require https, the URL is {url!r}")
        context = tls.load() if scheme == "https" else None
        return cls(origin, uds, tuple(headers), context, tls.server_name)


def _of_cluster(path: str) -> tuple[str, str]:
    """``/run/http.sock/c/NAME``: the path of the socket, and the prefix of the cluster or none."""
    found = _SOCKET_OF_CLUSTER.fullmatch(path)
    return (found[1], found[2]) if found else (path, "")


def _checked(token: str) -> str:
    """The token without surrounding white space, for example the newline at the end of its file."""
    token = token.strip()
    if not _TOKEN.fullmatch(token):
        raise ValueError(
            "invalid token (not shown): expected one word of printable ASCII characters"
        )
    return token
