"""gunicorn's HTTP/1 parser and WSGI environment; the only module that uses them.

Their internals change between releases, therefore gunicorn is pinned to the minor release that the
tests cover. The parser reads from the bytes that have been received, never from a socket.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from gunicorn.http import errors
from gunicorn.http.message import Request as GunicornRequest
from gunicorn.http.unreader import Unreader
from gunicorn.http.wsgi import create

HEAD_END = b"\r\n\r\n"
MAX_HEAD = 32 * 1024
"""Bytes that the head of a request may have. gunicorn's own limit is 800 KiB."""

# What the parser and the WSGI environment read of gunicorn's configuration, with its defaults.
# Forwarding headers are not trusted: none changes a path or a scheme.
_CONFIGURATION = SimpleNamespace(
    casefold_http_method=False,
    errorlog="",
    forwarded_allow_ips=[],
    forwarded_allow_networks=list,
    forwarder_headers=[],
    header_map="drop",
    is_ssl=False,
    limit_request_field_size=8190,
    limit_request_fields=100,
    limit_request_line=4094,
    permit_obsolete_folding=False,
    permit_unconventional_http_method=False,
    permit_unconventional_http_version=False,
    protocol="http",
    proxy_allow_ips=[],
    proxy_allow_networks=list,
    proxy_protocol="off",
    secure_scheme_headers={},
    strip_header_spaces=False,
    workers=1,
)

# gunicorn parses the address of the client to decide whether its forwarding headers are trusted.
# None of them has an effect here, so the address is left out, which saves 4 µs per request.
_PEER = ""

# Statuses of requests that are not valid; 400 for the others.
_STATUS: Sequence[tuple[type[Exception], str]] = (
    (errors.LimitRequestLine, "414 URI Too Long"),
    (errors.LimitRequestHeaders, "431 Request Header Fields Too Large"),
    (errors.UnsupportedTransferCoding, "501 Not Implemented"),
    (errors.ExpectationFailed, "417 Expectation Failed"),
    (errors.ParseException, "400 Bad Request"),
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose head is complete."""

    environ: dict[str, Any]
    size: int
    """Bytes from its start to the start of the next request."""
    version: tuple[int, int]
    closes: bool
    """The connection ends with the response: the client wants it, or the end of the body has not
    been received, so that the start of the next request is not known."""
    unread: bool
    """The client may still be sending a body."""
    expects_continue: bool


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that are not an HTTP request; the connection ends with the response."""

    status: str
    error_text: str


class _Incomplete(Exception):  # noqa: N818  # the rest may arrive
    pass


class _Received(Unreader):  # type: ignore[misc]  # gunicorn has no types
    """The bytes received so far."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data
        self.expects_continue = False

    def chunk(self, size_hint: int | None = None) -> bytes:
        if not self._data:
            raise _Incomplete
        data, self._data = self._data, b""
        return data

    def send(self, data: bytes) -> None:
        """Of a socket; gunicorn's only use of it here is ``100 Continue``."""
        self.expects_continue = True


def parse(data: bytes, client: Any, server: Any) -> Request | Malformed | None:
    """The first request in ``data``; None if its head is not complete.

    ``client`` and ``server`` are the addresses of the two ends, as `socket` has them.
    """
    end = data.find(HEAD_END)
    if (len(data) if end < 0 else end + len(HEAD_END)) > MAX_HEAD:
        return Malformed("431 Request Header Fields Too Large", "the request head is too long")
    received = _Received(data)
    try:
        parsed = GunicornRequest(_CONFIGURATION, received, _PEER, 1)
    except _Incomplete:
        return None
    except errors.ParseException as error:
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        return Malformed(status, str(error) or status[4:])
    _, environ = create(parsed, received, client, server, _CONFIGURATION)
    has_body = "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ
    has_end = not has_body or _skip_body(parsed)
    environ["wsgi.multithread"] = True
    return Request(
        environ=environ,
        size=len(data) - len(received.take_buffered()),
        version=parsed.version,
        closes=not has_end or parsed.should_close() or _wants_close(parsed.headers),
        unread=not has_end,
        expects_continue=received.expects_continue,
    )


def _skip_body(parsed: Any) -> bool:
    """No response depends on a body. False: its end was not received, or a chunk is invalid."""
    try:
        while parsed.body.read(16 * 1024):
            pass
    except (_Incomplete, errors.ParseException, OSError):
        return False
    return True


def _wants_close(headers: Sequence[tuple[str, str]]) -> bool:
    """RFC 9110, section 7.6.1: ``close`` among other options, which gunicorn does not look for."""
    return any(
        option.strip().lower() == "close"
        for name, value in headers
        if name == "CONNECTION"
        for option in value.split(",")
    )
