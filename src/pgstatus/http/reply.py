"""The bytes of an HTTP response: the head in gunicorn's form, and responses without the API."""

import json
from collections.abc import Sequence

from pgstatus.api.exchange import Response
from pgstatus.api.feeds import Feed
from pgstatus.http.wsgi import Malformed, Request
from pgstatus.telemetry.counters import Tally

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_HOP_BY_HOP = frozenset(("connection", "keep-alive", "transfer-encoding", "upgrade"))
_OF_LENGTH = _HOP_BY_HOP | {"content-length"}


class Reply:
    """A response as it is sent. ``Date`` is filled in when it is sent."""

    __slots__ = ("_after", "_before", "_date", "closes", "data", "feed", "tally", "unread")

    def __init__(
        self, before: bytes, after: bytes, tally: Tally, *, closes: bool, unread: bool = False
    ) -> None:
        self._before = before
        self._after = after
        self._date: bytes | None = None
        self.data = b""
        self.tally = tally
        """Its counter, which the sender increases."""
        self.closes = closes
        """The connection ends with it."""
        self.unread = unread
        """The client may still be sending."""
        self.feed: Feed | None = None
        """The stream whose beginning this is."""

    def dated(self, date: bytes) -> bytes:
        """The bytes; ``date`` as in the header, without its line end."""
        if date is not self._date:
            self._date = date
            self.data = b"".join((self._before, date, self._after))
        return self.data


def reply(request: Request, response: Response, tally: Tally, *, last: bool) -> Reply:
    """The response to a request; ``last``: the server closes the connection."""
    omitted = _HOP_BY_HOP if response.feed is None else _OF_LENGTH
    headers = [(name, value) for name, value in response.headers if name.lower() not in omitted]
    # The end of the connection is the end of a stream.
    closes = request.closes or last or response.feed is not None
    major, minor = request.version
    connection = "close" if closes else "keep-alive"
    before = f"HTTP/{major}.{minor} {response.status}\r\nServer: gunicorn\r\nDate: "
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    after = f"\r\nConnection: {connection}\r\n{lines}\r\n".encode("latin-1")
    made = Reply(
        (CONTINUE if request.expects_continue else b"") + before.encode("latin-1"),
        after + response.body,
        tally,
        closes=closes,
        unread=request.unread,
    )
    made.feed = response.feed
    return made


def refusal(status: str, error_text: str, headers: Sequence[str] = ()) -> bytes:
    """A response that the API has no part in, and that ends the connection."""
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


def malformed(found: Malformed, tally: Tally) -> Reply:
    """The response to bytes that are not a request. It has no date, as gunicorn's has none."""
    return Reply(b"", refusal(found.status, found.error_text), tally, closes=True, unread=True)
