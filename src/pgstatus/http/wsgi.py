"""One request through gunicorn's own parser, the app and gunicorn's own response, in memory.

The event loop of `fastlane` owns every socket; so that no slow client ever holds a thread, what
gunicorn reads from and writes to is not a socket but the bytes that have already arrived and a
list of those to be sent.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gunicorn.http import get_parser
from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.http.wsgi import create

from pgstatus.core.note import NOTE, MustWait, Note
from pgstatus.telemetry.counters import RequestKind

# Enough for any client's cookies and proxies' traces; gunicorn's own limit is 800 KiB, times the
# number of connections that may send as much.
_MAX_HEAD = 32 * 1024
# "HTTP/1.1 200 OK"
_STATUS = slice(9, 12)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Incomplete(Exception):  # noqa: N818  # the rest is on its way
    pass


@dataclass(slots=True)
class Exchange:
    """What came of the bytes that a client has sent so far."""

    answer: bytes
    used: int
    """So many of the client's bytes have been dealt with; what follows is its next request."""
    close: bool
    """The connection ends with this answer."""
    unread: bool = False
    """The client may still be sending what nobody will read."""
    note: Note = field(default_factory=Note)

    @property
    def kind(self) -> RequestKind:
        """What it is to be counted as."""
        status = self.answer.removeprefix(_CONTINUE)[_STATUS].decode("ascii", "replace")
        return RequestKind(self.note.endpoint, status, self.note.fell_back)


class _Wire:
    """A socket, as far as gunicorn can tell."""

    def __init__(self, received: bytes, client: Any, server: Any) -> None:
        self._received = received
        self.client = client
        self.server = server
        self.used = 0
        self._sent: list[bytes] = []

    def recv(self, size: int) -> bytes:
        data = self._received[self.used : self.used + size]
        if not data:
            raise _Incomplete
        self.used += len(data)
        return data

    def sendall(self, data: bytes) -> None:
        self._sent.append(data)

    send = sendall

    def gettimeout(self) -> float:
        """Zero: nothing has to be changed before writing an error."""
        return 0.0

    def sent(self) -> bytes:
        return b"".join(self._sent)


def last_words(status: str, error_text: str, *headers: str) -> bytes:
    """An answer that the app has no part in, and that ends the connection."""
    body = json.dumps({"error_text": error_text}).encode()
    head = (
        f"HTTP/1.1 {status}",
        "Connection: close",
        *headers,
        "Content-Type: application/json",
        "Cache-Control: no-store",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*head, "", "")).encode() + body


def _in_our_form(answer: bytes, error: Exception) -> bytes:
    """What gunicorn says, as HTML, to somebody whose request could not be read."""
    status = answer.partition(b"\r\n")[0].removeprefix(b"HTTP/1.1 ").decode("ascii", "replace")
    # Of a defect of ours the log has more.
    text = "" if status.startswith("500") else str(error)
    return last_words(status, text or status[4:])


def exchange(
    worker: Any, received: bytes, client: Any, server: Any, note: Note, *, close: bool = False
) -> Exchange | None:
    """Answer the first request in ``received``; None while it is not complete.

    ``close``: say that this answer is the connection's last. `MustWait` where the answer has to be
    waited for and the ``note`` does not allow it.
    """
    wire = _Wire(received, client, server)
    parser = get_parser(worker.cfg, wire, client)
    request = None
    unread = False
    try:
        try:
            request = next(parser)
        except _Incomplete:
            if len(received) < _MAX_HEAD:
                return None
            raise LimitRequestHeaders("the head of the request is too long") from None
        # No answer depends on a body: it is skipped, and one that has not arrived yet is not
        # waited for; the connection ends instead.
        unread = not _body_arrived(parser)
        keep = _respond(worker, request, wire, note, close=close or unread)
    except MustWait:
        raise
    except Exception as error:
        worker.handle_error(request, wire, client, error)
        answer = _in_our_form(wire.sent(), error)
        return Exchange(answer, wire.used, close=True, unread=True)
    ahead = len(parser.unreader.take_buffered())
    return Exchange(wire.sent(), wire.used - ahead, close=not keep, unread=unread, note=note)


def _body_arrived(parser: Any) -> bool:
    try:
        return bool(parser.finish_body())
    except Exception:
        # Incomplete, or a chunk that is none: either way the next request cannot be found.
        return False


def _asks_to_close(headers: Sequence[tuple[str, str]]) -> bool:
    """RFC 9110, section 7.6.1; gunicorn knows ``close`` alone in its header only."""
    options = (
        option for name, value in headers if name == "CONNECTION" for option in value.split(",")
    )
    return any(option.strip().lower() == "close" for option in options)


def _respond(worker: Any, request: Any, wire: _Wire, note: Note, *, close: bool) -> bool:
    """Run the app; True if the connection stays open."""
    response, environ = create(request, wire, wire.client, wire.server, worker.cfg)
    environ["wsgi.multithread"] = True
    environ[NOTE] = note
    if close or _asks_to_close(request.headers):
        response.force_close()
    parts = worker.wsgi(environ, response.start_response)
    try:
        for part in parts:
            response.write(part)
        response.close()
    finally:
        if hasattr(parts, "close"):
            parts.close()
    return not response.should_close()
