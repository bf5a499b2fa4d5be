"""A subscriber of ``/watch`` that sees every byte."""

import json
import re
import socket
import ssl
import time
from typing import Any, NamedTuple, Self

from tests.support.waiting import PATIENCE


class Event(NamedTuple):
    """One event; ``id`` is empty in an event without a new state."""

    kind: str
    id: str
    data: dict[str, Any]


class Subscriber:
    """The connection of one stream."""

    def __init__(
        self,
        sock: "socket.socket | ssl.SSLSocket",
        path: str,
        *,
        headers: str = "",
        version: str = "1.1",
    ) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self._buffer = b""
        self.sock.sendall(f"GET {path} HTTP/{version}\r\nHost: x\r\n{headers}\r\n".encode())
        self._head: str | None = None

    @classmethod
    def connect(cls, address: Any, path: str, *, receive_buffer: int | None = None) -> Self:
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.connect(address)
        return cls(sock, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    @property
    def head(self) -> str:
        """The head of the response."""
        if self._head is None:
            self._head = self._until(b"\r\n\r\n").decode()
        return self._head

    def next(self, kind: str | None = None) -> Event:
        """The next event, of this kind; EOFError: the stream has ended."""
        assert self.head.startswith("HTTP/1."), self.head
        while True:
            text = self._until(b"\n\n").decode()
            event = _parse(text)
            if event is not None and kind in {None, event.kind}:
                return event

    def hosts(self) -> list[str]:
        """The hosts of the next event of a question."""
        return [host["host"] for host in self.next("answer").data["hosts"]]

    def rest(self) -> list[Event]:
        """All events until the stream ends."""
        events = []
        try:
            while True:
                events.append(self.next())
        except (EOFError, ConnectionError):
            return events

    def is_silent(self, seconds: float) -> bool:
        """Nothing but `alive` events arrives meanwhile."""
        end = time.monotonic() + seconds
        try:
            while (left := end - time.monotonic()) > 0:
                self.sock.settimeout(left)
                if self.next().kind != "alive":
                    return False
        except TimeoutError:
            pass
        finally:
            self.sock.settimeout(PATIENCE)
        return True

    def _until(self, separator: bytes) -> bytes:
        while (end := self._buffer.find(separator)) < 0:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"the stream ended after {self._buffer!r}")
            self._buffer += data
        found, self._buffer = self._buffer[:end], self._buffer[end + len(separator) :]
        return found


def _parse(text: str) -> Event | None:
    fields = dict(re.findall(r"^(\w+): (.*)$", text, re.MULTILINE))
    if "event" not in fields:
        return None
    return Event(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
