"""A client that sends requests at a constant rate on kept connections and counts failures."""

import socket
import threading
import time
from collections import Counter
from itertools import cycle
from urllib.parse import urlsplit

from tests.support.running import Running


class Load(Running):
    """Sends ``per_second`` requests for ``path`` on kept connections within a ``with`` block.

    No request is repeated; ``failures`` contains errors and unexpected responses.
    """

    def __init__(
        self, url: str, path: str, *, per_second: int = 1000, connections: int = 8
    ) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
        self._per_second = per_second
        self._connections = connections
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.bodies: Counter[str] = Counter()
        self.failures: list[str] = []
        self.seconds = 0.0

    @property
    def asked(self) -> int:
        return self.bodies.total() + len(self.failures)

    def launch(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        sockets = [socket.create_connection(self._address, 5) for _ in range(self._connections)]
        began = time.monotonic()
        for number, connection in enumerate(cycle(sockets)):
            ahead = began + number / self._per_second - time.monotonic()
            if self._stopping.wait(max(0.0, ahead)):
                break
            try:
                self._ask(connection)
            except OSError as error:
                self.failures.append(repr(error))
                break
        self.seconds = time.monotonic() - began
        for connection in sockets:
            connection.close()

    def _ask(self, connection: socket.socket) -> None:
        connection.sendall(self._request)
        answer = b""
        while b"\r\n\r\n" not in answer or len(answer) < _length(answer):
            part = connection.recv(65536)
            if not part:
                raise ConnectionResetError("closed in the middle of a response")
            answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 200 "):
            self.bodies[body.decode()] += 1
        else:
            self.failures.append(answer.decode())


def _length(answer: bytes) -> int:
    head, _, _ = answer.lower().partition(b"\r\n\r\n")
    _, _, length = head.partition(b"content-length:")
    return len(head) + 4 + int(length.split(b"\r\n")[0])
