"""A parser for ``text/event-stream``. No input or output.

Source: WHATWG HTML, section "Server-sent events". ``retry`` is ignored: see `stream`.
"""

from collections.abc import Iterator
from typing import NamedTuple

# The state of a few hundred hosts is far smaller.
MAX_EVENT_BYTES = 4 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event. ``id`` is the last one that the stream has sent."""

    kind: str
    data: str
    id: str


class EventParser:
    """Turns the bytes of one stream, split at any place, into events."""

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._size = 0  # of the event that is not complete yet
        self._line = bytearray()
        self._is_first_line = True
        self._is_after_cr = False
        self._kind = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, received: bytes) -> Iterator[Event]:
        """The events that these bytes complete. ValueError: an event is too large."""
        if self._is_after_cr and received.startswith(b"\n"):
            received = received[1:]  # the second half of CRLF
            self._is_after_cr = False
        if not received:
            return
        self._is_after_cr = received.endswith(b"\r")
        *complete, rest = received.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for part in complete:
            self._append(part)
            line = bytes(self._line)
            self._line.clear()
            event = self._take(line)
            if event is not None:
                yield event
        self._append(rest)

    def _append(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._max_bytes:
            raise ValueError(f"an event is larger than {self._max_bytes} bytes")
        self._line += part

    def _take(self, line: bytes) -> Event | None:
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif not name:
            self._size -= len(line)  # a comment, which belongs to no event
        return None

    def _dispatch(self) -> Event | None:
        kind, data = self._kind or "message", self._data
        self._kind, self._data, self._size = "", [], 0
        return Event(kind, "\n".join(data), self._id) if data else None
