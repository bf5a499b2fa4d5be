"""A worker in a thread of the test, and a client that sees every byte.

gunicorn's thread worker and ours serve the same application, so that a test can compare them.
"""

import os
import re
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Self

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

from pgstatus import clock
from pgstatus.api import Application, Daemon, Service, create_app
from pgstatus.api.exchange import Exchange, Response, Slow, Waiting
from pgstatus.api.feeds import Epoch, Feeds
from pgstatus.core.selection import Place, Question, Thresholds
from pgstatus.core.snapshot import Snapshot
from pgstatus.http.worker import EventLoopWorker
from pgstatus.monitor.waiters import Waiters
from pgstatus.telemetry.counters import Requests, Watchers
from pgstatus.telemetry.history import History
from tests.support.running import Running

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class Serving(Running):
    """Our worker serves ``snapshot``, which the test may replace."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        app: Callable[..., Any] | None = None,
        send_buffer: int | None = None,
        context: ssl.SSLContext | None = None,
        keepalive: float = 75.0,
        connections: int = 1000,
        waiters: Waiters | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.requests = Requests()
        self.watchers = Watchers()
        self.context = context
        self.app_calls = 0
        self.waiters = waiters or Waiters(100)
        self._application = Application(app or create_app(daemon(service(self.read))))
        listener = _listener(send_buffer)
        self.address = listener.getsockname()
        self.worker = EventLoopWorker(
            [listener],
            self,
            self.requests,
            self.watchers,
            lambda: self.context,
            keepalive=keepalive,
            connections=connections,
        )
        self._thread = threading.Thread(target=self.worker.run)

    def read(self, cluster: str | None = None) -> Snapshot:
        return self.snapshot

    def respond(self, environ: dict[str, Any], exchange: Exchange) -> Response | Waiting | Slow:
        self.app_calls += 1
        return self._application.respond(environ, exchange)

    def wait(
        self, cluster: str | None, question: Question, wake: Callable[[], None]
    ) -> Callable[[], object] | None:
        waiter = self.waiters.add(question, wake)
        return None if waiter is None else partial(self.waiters.discard, waiter)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self.worker.shared.connections)

    @property
    def buffered(self) -> int:
        """Bytes of incomplete requests, and of responses that clients have not taken."""
        return self.worker.shared.buffered

    def launch(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        """What SIGTERM does."""
        self.worker.stop()

    def connect(self, *, receive_buffer: int | None = None) -> "Client":
        return Client(self.address, receive_buffer)

    def ask(self, request: bytes) -> bytes:
        """One request on a connection of its own; the response without its date."""
        with self.connect() as client:
            client.send(request)
            return client.answer(head=request.startswith(b"HEAD "))


class StockServing(Running):
    """gunicorn's own thread worker serves the same application, for comparison."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._app = create_app(daemon(service(lambda: snapshot)))
        config = Config()
        for name, value in {"keepalive": 75, "threads": 1, "graceful_timeout": 1}.items():
            config.set(name, value)
        listener = _listener(None)
        self.address = listener.getsockname()
        self._worker = ThreadWorker(0, os.getppid(), [listener], self, 30, config, _Silent(config))
        self._thread = threading.Thread(target=self._run)

    def wsgi(self) -> Callable[..., Any]:
        """What gunicorn asks its application object for."""
        return self._app

    def _run(self) -> None:
        # `init_process` without what belongs to a process of its own: signals, user, seed.
        self._worker.tpool = self._worker.get_thread_pool()
        self._worker.poller = selectors.DefaultSelector()
        self._worker.method_queue.init()
        self._worker.load_wsgi()
        self._worker.run()

    def launch(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._worker.handle_exit(None, None)
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._worker.tpool.shutdown()
        self._worker.tmp.close()

    def connect(self) -> "Client":
        return Client(self.address)


def _listener(send_buffer: int | None) -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as gunicorn's own
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    return listener


def service(read: Callable[[], Snapshot]) -> Service:
    """The service of an application that answers from ``read`` and does not wait by default."""
    return Service(
        read=read,
        now=clock.now,
        thresholds=Thresholds(),
        place=Place(),
        min_lsn_wait=0.0,
        feeds=Feeds(read, Place(), Epoch(), limits_fallback=False),
        history=History(),
    )


def daemon(only: Service, **more: Any) -> Daemon:
    """A daemon with one cluster, which has no name."""
    return Daemon(
        clusters=lambda: {"": only},
        expose=lambda accept, cluster: ("text/plain", b"metrics"),
        **more,
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
