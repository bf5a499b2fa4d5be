"""A server that sends notifications as a test determines, also invalid or late ones."""

import contextlib
import json
import socket
import threading
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from tests.client.support import answer
from tests.support.waiting import wait_until

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\n\r\n"


def host(name: str, role: str = "master") -> dict[str, Any]:
    """A selected host as in the JSON of pg-status."""
    return {
        "host": name, "port": 5432, "role": role, "lag_ms": 0, "lag_bytes": 0, "lsn": "0/3000060",
        "dc": None, "geo": None,
    }  # fmt: skip


def event(kind: str, content: dict[str, Any], fresh_ms: int, clock_error: float) -> bytes:
    """One notification of a server whose clock is wrong by so many seconds."""
    until = datetime.now(UTC) + timedelta(seconds=clock_error, milliseconds=fresh_ms)
    text = until.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    data = json.dumps({**content, "fresh_until": text, "fresh_ms": fresh_ms})
    return f"event: {kind}\ndata: {data}\n\n".encode()


class Notifier:
    """``head`` is the beginning of each stream, ``state`` its first notification.

    Other requests get ``answer``. ``streams`` and ``requests`` are the targets so far.
    """

    def __init__(self) -> None:
        self.streams: list[str] = []
        self.requests: list[str] = []
        self.head = HEAD
        self.answers: list[bytes] = []
        """Instead of `answer`, in turn."""
        self.answer = answer(json.dumps(host("by request")).encode())
        self.keeps_open = False  # also with another head
        self.clock_error = 0.0
        self.state = b""
        self.states: dict[str, bytes] = {}
        """The first notification for other targets."""
        self._ids = count(1)
        self._id = ""
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.77.7.1", 0))
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.set(host("pg1"))

    @property
    def url(self) -> str:
        address, port = self._listener.getsockname()
        return f"http://{address}:{port}"

    def set(
        self, *hosts: dict[str, Any], reason: str | None = None, fresh_ms: int = 30_000
    ) -> None:
        """Another state, also for the streams that are open."""
        self._id = f"test-{next(self._ids)}"
        content = {"id": self._id, "hosts": hosts, "reason": reason}
        self.state = event("answer", content, fresh_ms, self.clock_error)
        self.send(self.state)

    def hosts(self, master: str) -> bytes:
        """A state of all hosts, which are none except the master."""
        content = {
            "id": "hosts-1", "ready": True, "stale": False, "master": master, "no_master": None,
            "hosts": [],
        }  # fmt: skip
        return event("hosts", content, 30_000, self.clock_error)

    def alive(self, fresh_ms: int = 30_000) -> None:
        """The state holds for longer."""
        self.send(event("alive", {"id": self._id}, fresh_ms, self.clock_error))

    def send(self, data: bytes) -> None:
        """Send this on each stream."""
        with self._lock:
            for stream in self._open:
                with contextlib.suppress(OSError):
                    stream.sendall(data)

    def end_streams(self) -> None:
        """The end of each response."""
        with self._lock:
            while self._open:
                _close(self._open.pop())

    def wait_for_streams(self, number: int) -> None:
        """Until so many streams have been requested."""
        wait_until(f"{number} streams", lambda: len(self.streams) >= number)

    def stop(self) -> None:
        _close(self._listener)
        self.end_streams()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        connections = []
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()
        for connection in connections:
            _close(connection)

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        with contextlib.suppress(OSError):
            while more := connection.recv(65536):
                received += more
                if b"\r\n\r\n" not in received:
                    continue
                target = received.split(b" ")[1].decode()
                received = b""
                if target.startswith("/watch"):
                    with self._lock:
                        connection.sendall(self.head + self.states.get(target, self.state))
                        self._open.append(connection)
                        self.streams.append(target)
                    if self.head != HEAD and not self.keeps_open:
                        _close(connection)
                else:
                    turn = len(self.requests)
                    self.requests.append(target)
                    answers = self.answers or [self.answer]
                    connection.sendall(answers[turn % len(answers)])


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
