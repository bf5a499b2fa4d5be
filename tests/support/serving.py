"""A gunicorn worker in a thread of the test, and a client that sees every byte.

The stock worker and ours serve the same app, so that a test can ask both and compare.
"""

import os
import re
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Self

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

from pgstatus import clock
from pgstatus.api import Service, create_app
from pgstatus.core.selection import Place, Thresholds
from pgstatus.core.snapshot import Snapshot
from pgstatus.http.worker import FastLaneWorker
from pgstatus.monitor.waiters import Waiters
from pgstatus.telemetry.counters import Requests
from pgstatus.telemetry.history import History
from tests.support.running import Running

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class Serving(Running):
    """A worker that serves ``snapshot``, which the test may replace."""

    def __init__(
        self,
        snapshot: Snapshot,
        worker_class: type[Any] = FastLaneWorker,
        app: Callable[..., Any] | None = None,
        send_buffer: int | None = None,
        context: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        self.snapshot = snapshot
        self.requests = Requests()
        self.context = context
        self.app_calls = 0
        self._app = app or create_app(service(self.read))
        config = Config()
        options = {"keepalive": 75, "threads": 2, "graceful_timeout": 1, **options}
        for name, value in options.items():
            config.set(name, value)
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as gunicorn's own
        if send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.address = listener.getsockname()
        self.worker = worker_class(0, os.getppid(), [listener], self, 30, config, _Silent(config))
        self._thread = threading.Thread(target=self._run)

    def read(self) -> Snapshot:
        return self.snapshot

    def tls(self) -> ssl.SSLContext | None:
        return self.context

    def hurry(self) -> None:
        """Nothing waits here."""

    def wsgi(self) -> Callable[..., Any]:
        """What gunicorn asks its application object for."""
        return self._counted

    def _counted(self, environ: Any, start_response: Any) -> Any:
        self.app_calls += 1
        return self._app(environ, start_response)

    def _run(self) -> None:
        # `init_process` without what belongs to a process of its own: signals, user, seed.
        worker: ThreadWorker = self.worker
        worker.tpool = worker.get_thread_pool()
        worker.poller = selectors.DefaultSelector()
        worker.method_queue.init()
        worker.load_wsgi()
        worker.run()

    def launch(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.worker.tpool.shutdown()
        self.worker.tmp.close()

    def stop(self) -> None:
        """What SIGTERM does."""
        self.worker.handle_exit(None, None)

    def connect(self, *, receive_buffer: int | None = None) -> "Client":
        return Client(self.address, receive_buffer)

    def ask(self, request: bytes) -> bytes:
        """One request on a connection of its own; the answer without its date."""
        with self.connect() as client:
            client.send(request)
            return client.answer(head=request.startswith(b"HEAD "))


def service(read: Callable[[], Snapshot]) -> Service:
    """An app's service that answers from ``read`` and never waits."""
    return Service(
        read=read,
        now=clock.now,
        thresholds=Thresholds(),
        place=Place(),
        waiters=Waiters(1),
        min_lsn_wait=0.0,
        history=History(),
        expose=lambda accept: ("text/plain", b"metrics"),
    )


class Client:
    """One connection, bytes in, bytes out."""

    def __init__(self, address: Any, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(10)
        self.sock.connect(address)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, path: str) -> bytes:
        """The whole answer to a simple request."""
        self.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
        return self.answer()

    def text(self, path: str) -> str:
        """The body of the answer to a simple request."""
        return self.get(path).partition(b"\r\n\r\n")[2].decode()

    def answer(self, *, head: bool = False) -> bytes:
        """The next answer, without its date: another second, another date."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._receive()
        end += 4
        length = _CONTENT_LENGTH.search(self._buffer[:end])
        if length is not None and not head:
            end += int(length[1])
        while len(self._buffer) < end:
            self._receive()
        answer, self._buffer = self._buffer[:end], self._buffer[end:]
        return undated(answer)

    def rest(self) -> bytes:
        """Everything until the server ends the connection, without dates."""
        while data := self.sock.recv(65536):
            self._buffer += data
        return undated(self._buffer)

    def _receive(self) -> None:
        data = self.sock.recv(65536)
        assert data, f"the connection ended after {self._buffer!r}"
        self._buffer += data


class _Silent(Logger):  # type: ignore[misc]
    """Tests send much that deserves a warning."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = False


def undated(answers: bytes) -> bytes:
    return re.sub(rb"\r\nDate: [^\r]*", b"\r\nDate: -", answers)
