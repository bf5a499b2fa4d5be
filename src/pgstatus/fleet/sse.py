"""Events of a stream of server-sent events. Source: WHATWG HTML, "Server-sent events". Pure."""

from collections.abc import Iterator


class EventTooLargeError(ValueError):
    """An event does not end within the limit."""


class Events:
    """Turns the bytes of a stream into the data of its events."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line = bytearray()
        """The beginning of a line."""
        self._data: list[bytes] = []
        """The data lines of the present event."""
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The data of the events that are complete."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            yield from self._ended(bytes(self._line) + line)
            self._line.clear()
        self._line += rest
        self._check()

    def _ended(self, line: bytes) -> Iterator[bytes]:
        line = line.removesuffix(b"\r")
        if line.startswith(b"data:"):
            self._data.append(line.removeprefix(b"data:").removeprefix(b" "))
            self._size += len(line)
            self._check()
        elif not line and self._data:
            yield b"\n".join(self._data)
            self._data.clear()
            self._size = 0

    def _check(self) -> None:
        if self._size + len(self._line) > self._limit:
            raise EventTooLargeError(f"an event is larger than {self._limit} bytes")
