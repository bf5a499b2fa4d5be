"""A watcher whose documents a test writes: for evidence that a real one cannot be made to send at a
given moment.
"""

import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from pgstatus import clock
from pgstatus.core.snapshot import Failure, Host, Observation
from pgstatus.core.state import Look, Memory
from pgstatus.fleet.document import Document, Result, encode
from tests.support.running import Running

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
_NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
# Seconds between two documents.
_INTERVAL = 0.1

Seen = Observation | Failure | None


class ScriptedWatcher(Running):
    """Sends complete documents with what ``seen`` maps each host to.

    A result is as old as its ``started`` and ``finished`` say, on the clock of this process;
    ``fresh`` makes one that was observed in this moment.
    """

    def __init__(self, address: str, name: str, epoch: str = "") -> None:
        self.seen: Mapping[Host, Seen] = {}
        self.memory: Memory | None = None
        self.ready = True
        self.name = name
        self.epoch = epoch or name
        self.age: float | None = 0.0
        """Seconds since each check; None: the times of the results."""
        self.change: Callable[[Document], Document] = lambda document: document
        """What is sent instead."""
        self.positions = 0
        """Requests for positions."""
        self.connections = 0
        self._ended = False
        self._server = _Server((address, 0), self)
        self.url = f"http://{address}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def launch(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def document(self) -> Document:
        now = clock.now()

        def result(host: Host, value: Seen) -> Result:
            if value is not None and self.age is not None:
                moment = now - self.age
                value = replace(value, started=moment, finished=moment)
            return Result(host, Look.ROUND, value)

        return self.change(
            Document(
                watcher=self.epoch,
                name=self.name,
                version="1.0.0",
                sent=now,
                complete=True,
                results=tuple(result(host, value) for host, value in self.seen.items()),
                memory=self.memory,
                ready=self.ready,
            )
        )

    def respond(self, path: str, send: Callable[[bytes], object]) -> bool:
        """Respond to a request; False: the connection is to be closed."""
        if path.endswith("/evidence"):
            self.connections += 1
            send(_HEAD)
            while not self._ended:
                send(b"data: " + encode(self.document()) + b"\n\n")
                time.sleep(_INTERVAL)
            return False
        self.positions += 1
        send(_NO_CONTENT)
        return True


class _Handler(socketserver.StreamRequestHandler):
    server: "_Server"

    def handle(self) -> None:
        with suppress(OSError):
            while line := self.rfile.readline():
                while self.rfile.readline().strip():
                    pass
                path = line.split()[1].decode().partition("?")[0]
                if not self.server.watcher.respond(path, self.request.sendall):
                    return


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], watcher: ScriptedWatcher) -> None:
        super().__init__(address, _Handler)
        self.watcher = watcher
