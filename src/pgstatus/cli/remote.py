"""A running pg-status as seen by the command line: over TCP, TLS or a Unix socket.

Python's own HTTP client suffices for single requests. The health check of a container uses it too,
and therefore needs neither curl nor a shell.
"""

import http.client
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote, urlsplit

from pgstatus.errors import StartError, UnreachableError
from pgstatus.settings.process import ProcessSettings

# Seconds. A health check reports the reason before its caller gives up (Docker: --timeout=3s).
_TIMEOUT, _PROBE_TIMEOUT = 5.0, 2.0
# An instance sends an event at least as often.
_ALIVE = 10.0
_EXPECTED = "expected http://host:port, https://host:port, either with a path, or unix:/path"
# The name of a socket must end in ".sock", because a directory of another may be named "c".
_OF_CLUSTER = re.compile(r"(https?://.*|unix:.+\.sock)/c/([^/?#]+)/?")
# A server that listens on all addresses is reached at the loopback address of the same family.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(frozen=True, slots=True)
class Response:
    """A response of pg-status, or of another server at its address."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        return self.status == http.client.OK


@dataclass(frozen=True, slots=True)
class Instance:
    """The address of a pg-status, and the credentials for it. StartError: the URL is invalid."""

    url: str
    """``http://host:port``, ``https://host:port``, or one of them with a path that precedes every
    endpoint, or ``unix:/path``; without ``/c/NAME``."""
    token: str | None = field(default=None, repr=False)
    context: ssl.SSLContext | None = None
    """For https."""
    timeout: float = _TIMEOUT
    """Seconds for the connection, and for each part of the response."""
    cluster: str | None = None
    """Requests are about this one of several clusters."""
    _connect: Callable[[], http.client.HTTPConnection] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_connect", self._connection())

    @classmethod
    def of(cls, settings: ProcessSettings) -> "Instance":
        """The instance on this machine that runs with these settings."""
        token = settings.tokens[0].decode() if settings.tokens else None
        address = _LOOPBACK.get(settings.listen_address, settings.listen_address)
        url = replace(settings, listen_address=address).url
        if settings.tls_certificate is None or url.startswith("unix:"):
            return cls(url, token)
        # The certificate is not issued for the loopback address. Therefore exactly the configured
        # certificate is accepted, and no other that its authority has issued.
        context = ssl.create_default_context(cafile=settings.tls_certificate)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return cls(url, token, context)

    @property
    def shown(self) -> str:
        """The URL, with the cluster."""
        return self.url.rstrip("/") + self._below

    @property
    def of_all(self) -> "Instance":
        """For requests about all clusters."""
        return replace(self, cluster=None)

    def probe(self, path: str) -> Response:
        """GET a path that needs no token, whatever the certificate of the server.

        A renewed certificate that the server has not loaded yet is not a failure.
        """
        context = None
        if self.context is not None:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return replace(self, token=None, context=context, timeout=_PROBE_TIMEOUT).get(path)

    def get(self, path: str, accept: str = "*/*") -> Response:
        """GET a path. UnreachableError: there is no HTTP response."""
        with self._request(path, accept) as (response, _):
            body = response.read().decode(errors="replace")
            return Response(response.status, body, dict(response.headers))

    @contextmanager
    def stream(self, path: str) -> Iterator["Stream | None"]:
        """GET a stream of events; None if the instance has no such path. UnreachableError."""
        with self._request(path, "text/event-stream") as (response, sock):
            if response.status == 404:
                yield None
            elif response.status == http.client.OK:
                yield Stream(response, sock)
            else:
                raise UnreachableError(f"{self.shown}{path}: status {response.status}")

    @contextmanager
    def _request(
        self, path: str, accept: str
    ) -> Iterator[tuple[http.client.HTTPResponse, socket.socket]]:
        headers = {"Accept": accept}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = self._connect()
        try:
            connection.request("GET", self._prefix + path, headers=headers)
            sock = connection.sock  # the connection forgets it if the response ends it
            with connection.getresponse() as response:
                yield response, sock
        except (UnreachableError, StartError):  # of the caller
            raise
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise UnreachableError(f"no response from {self.url}: {_reason(error)}") from None
        finally:
            connection.close()

    @property
    def _prefix(self) -> str:
        path = "" if self.url.startswith("unix:") else urlsplit(self.url).path.rstrip("/")
        return path + self._below

    @property
    def _below(self) -> str:
        return "" if self.cluster is None else f"/c/{quote(self.cluster, safe='')}"

    def _connection(self) -> Callable[[], http.client.HTTPConnection]:
        if self.url.startswith("unix:"):
            path = _socket_path(self.url)
            return lambda: _UnixConnection(path, self.timeout)
        try:
            parts = urlsplit(self.url)
            if "@" in parts.netloc:
                # Without the URL: it contains a password.
                raise StartError(
                    "credentials in a URL are not supported; a token is read from --token-file"
                )
            host, port = parts.hostname, parts.port
        except ValueError:
            raise _invalid(self.url) from None
        if not host or parts.query or parts.fragment:
            raise _invalid(self.url)
        match parts.scheme:
            case "http":
                return lambda: http.client.HTTPConnection(host, port, timeout=self.timeout)
            case "https":
                return lambda: http.client.HTTPSConnection(
                    host, port, timeout=self.timeout, context=self.context
                )
        raise _invalid(self.url)


def split_cluster(url: str) -> tuple[str, str | None]:
    """``http://host:port/c/NAME`` or ``unix:/run/http.sock/c/NAME``: the URL of the instance, and
    the name of the cluster.
    """
    found = _OF_CLUSTER.fullmatch(url)
    return (found[1], unquote(found[2])) if found else (url, None)


class Stream:
    """A response that does not end by itself."""

    def __init__(self, response: http.client.HTTPResponse, sock: socket.socket) -> None:
        self._response = response
        self._socket = sock

    def __iter__(self) -> Iterator[bytes]:
        """Its lines. OSError: nothing was received in time."""
        while line := self._response.readline():
            yield line

    def expect_next(self, milliseconds: float | None) -> None:
        """The next event must arrive within this time, if it is not 0, or that of `_ALIVE`.

        Two seconds later the instance is unavailable.
        """
        seconds = min(milliseconds / 1000, _ALIVE) if milliseconds else _ALIVE
        self._socket.settimeout(seconds + 2)


def _socket_path(url: str) -> str:
    """The path of ``unix:/path`` or ``unix:///path``. It may contain any character."""
    path = url.removeprefix("unix:")
    if path.startswith("///"):
        path = path[2:]
    if not path.startswith("/") or path.startswith("//"):
        raise _invalid(url)
    return path


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _invalid(url: str) -> StartError:
    return StartError(f"{url!r}: {_EXPECTED}")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
