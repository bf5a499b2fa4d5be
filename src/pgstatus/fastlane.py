"""The worker: gunicorn's thread worker, with an event loop that answers from memory.

A request known by its exact bytes costs a recv, a look into a dictionary and a send. Every other
is parsed by gunicorn and answered by the app on the spot, which takes less time than handing it to
a thread; a thread is taken only for an answer that has to wait. Whatever a client does slowly, it
does to its own connection: all sockets belong to the loop and none of them ever blocks.
"""

import contextlib
import errno
import logging
import math
import resource
import selectors
import socket
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from pgstatus import clock
from pgstatus.exchange import Exchange, exchange
from pgstatus.replay import Memo, MustWait, Note

log = logging.getLogger(__name__)

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_HEAD_END = b"\r\n\r\n"
_RECEIVE = 16 * 1024
# A client that sends many requests at once gets this many answers, or bytes, before it is others'
# turn, and no more before it has taken those.
_BURST = 16
_BURST_BYTES = 64 * 1024
_ACCEPTS = 64
# Seconds that a client has for the head of a request once it has begun it, for taking any part of
# its answer, and for closing its end after our last answer.
_HEAD_SECONDS = 10.0
_SEND_SECONDS = 30.0
_LINGER_SECONDS = 2.0
# Connections beyond the limit that are told so, rather than left waiting; more than these wait in
# the backlog.
_REFUSALS = 100
# Files that are not connections: hosts under watch, logs, pipes.
_OTHER_FILES = 200
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Type: application/json\r\nContent-Length: 37\r\nCache-Control: no-store\r\n\r\n"
    b'{"error_text": "too many connections"}'
)


def connection_limit(wanted: int) -> int:
    """Raise the limit of open files as far as ``wanted`` connections need it; how many fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = wanted + _REFUSALS + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < need:
        soft = need if hard == resource.RLIM_INFINITY else min(need, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - _REFUSALS - _OTHER_FILES))


class _Connection:
    __slots__ = (
        "client",
        "closing",
        "deadline",
        "inbox",
        "outbox",
        "retry_at",
        "server",
        "sock",
        "unread",
        "watched",
    )

    def __init__(self, sock: socket.socket, client: Any, server: Any, deadline: float) -> None:
        self.sock = sock
        self.client = client
        self.server = server
        self.deadline = deadline
        """Without progress until then it is closed."""
        self.inbox = b""
        """Received, not yet answered."""
        self.retry_at = 0
        """The length of an incomplete inbox that is worth another look."""
        self.outbox: bytes | memoryview = b""
        """Answered, not yet taken by the client."""
        self.watched = 0
        """What the poller watches it for; 0: it is not registered."""
        self.closing = False
        """What is in the outbox ends the connection."""
        self.unread = False
        """The client may be sending what nobody will read."""


class FastLaneWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Needs of the application object: ``read`` (the newest snapshot) and ``now`` (its clock)."""

    _memo: Memo

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections: set[_Connection] = set()
        self._limit = 0
        self._now = self._next_sweep = clock.now()

    def load_wsgi(self) -> None:
        """Load the app, and what the fast lane needs of it."""
        super().load_wsgi()
        self._memo = Memo(self.app.read, self.app.now)
        self._limit = connection_limit(self.worker_connections)

    def run(self) -> None:
        """Serve until told to stop, then give open connections a moment to finish."""
        self.poller.register(self.method_queue.fileno(), _READ, self.method_queue.run_callbacks)
        self.set_accept_enabled(True)
        while self.alive:
            self._turn(1.0)
        self.set_accept_enabled(False)
        # From here on every answer says that it is the last: none of the old ones will do.
        self._memo = Memo(self.app.read, self.app.now)
        end = clock.now() + self.cfg.graceful_timeout
        while self._connections and (left := end - clock.now()) > 0:
            self._turn(left)
        for connection in list(self._connections):
            self._drop(connection)
        self.tpool.shutdown(wait=False)
        self.poller.close()
        self.method_queue.close()
        for listener in self.sockets:
            listener.close()

    def _turn(self, timeout: float) -> None:
        events = self.poller.select(timeout)
        self._now = clock.now()
        for key, _ in events:
            key.data(key.fileobj)
        if self._now >= self._next_sweep:
            self._next_sweep = self._now + 1.0
            self._sweep()

    def _sweep(self) -> None:
        """Once a second: a sign of life for the arbiter, and the end of whoever is too slow."""
        self.notify()
        if not self.is_parent_alive():
            self.alive = False
        for connection in [c for c in self._connections if c.deadline < self._now]:
            self._drop(connection)
        if self.alive:
            self.set_accept_enabled(len(self._connections) < self._limit + _REFUSALS)

    def accept(self, listener: Any) -> None:
        """Take the connections that wait, and look at once whether their requests are here."""
        server = listener.getsockname()
        for _ in range(_ACCEPTS):
            if len(self._connections) >= self._limit + _REFUSALS:
                self.set_accept_enabled(False)
                return
            try:
                sock, client = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                log.error("cannot accept connections: %s", error.strerror)
                # Until the next sweep; meanwhile they wait in the backlog.
                self.set_accept_enabled(False)
                return
            sock.setblocking(False)
            connection = _Connection(sock, client, server, self._now + self.cfg.keepalive)
            self._connections.add(connection)
            if len(self._connections) > self._limit:
                connection.deadline = self._now + _LINGER_SECONDS
                self._watch(connection, _READ, self._refuse)
            else:
                self._readable(connection, sock)

    def _refuse(self, connection: _Connection, sock: socket.socket) -> None:
        """The client of a connection too many has asked something."""
        connection.closing = connection.unread = True
        self._send(connection, _REFUSAL)

    def _readable(self, connection: _Connection, sock: socket.socket) -> None:
        try:
            data = sock.recv(_RECEIVE)
        except BlockingIOError:
            if connection.watched != _READ:
                self._watch(connection, _READ, self._readable)
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
        elif not connection.inbox and (answer := self._memo.find(data)) is not None:
            connection.closing = answer.close
            self._send(connection, b"".join((answer.before, self._memo.date, answer.after)))
        else:
            connection.inbox += data
            self._advance(connection)

    def _advance(self, connection: _Connection) -> None:
        """Answer what is complete in the inbox, in order, as far as it is this client's turn."""
        answers: list[bytes] = []
        size = 0
        while (
            connection.inbox
            and not connection.closing
            and len(answers) < _BURST
            and size < _BURST_BYTES
        ):
            try:
                answer = self._next(connection)
            except MustWait:
                if not answers:
                    self._wait(connection)
                    return
                break
            if answer is None:
                break
            answers.append(answer)
            size += len(answer)
        if answers:
            self._send(connection, b"".join(answers))
        elif connection.watched != _READ:
            self._watch(connection, _READ, self._readable)

    def _next(self, connection: _Connection) -> bytes | None:
        """The answer to the first request in the inbox; None while that is not complete."""
        inbox = connection.inbox
        end = inbox.find(_HEAD_END) + len(_HEAD_END)
        if end < len(_HEAD_END) and len(inbox) < connection.retry_at:
            return None
        head = inbox[:end]
        kept = self._memo.find(head)
        if kept is not None:
            done = Exchange(
                b"".join((kept.before, self._memo.date, kept.after)), end, close=kept.close
            )
            return self._taken(connection, done)
        note = self._memo.note(head)
        made = exchange(
            self, inbox, connection.client, connection.server, note, close=not self.alive
        )
        if made is None:
            if not connection.retry_at:
                connection.deadline = self._now + _HEAD_SECONDS
            # So that a client that sends byte by byte is not parsed byte by byte.
            connection.retry_at = 2 * len(inbox)
            return None
        if made.used == end and not made.unread and self.alive:
            self._memo.keep(head, made.answer, note, close=made.close)
        return self._taken(connection, made)

    def _taken(self, connection: _Connection, done: Exchange) -> bytes:
        connection.inbox = connection.inbox[done.used :]
        connection.retry_at = 0
        connection.closing = done.close
        connection.unread = done.unread
        return done.answer

    def _wait(self, connection: _Connection) -> None:
        """Have a thread make the answer; until then this client is not listened to."""
        if connection.watched:
            self.poller.unregister(connection.sock)
            connection.watched = 0
        connection.deadline = math.inf
        future = self.tpool.submit(
            exchange,
            self,
            connection.inbox,
            connection.client,
            connection.server,
            Note(),
            close=not self.alive,
        )
        future.add_done_callback(partial(self.method_queue.defer, self._waited, connection))

    def _waited(self, connection: _Connection, future: "Future[Exchange | None]") -> None:
        done = future.result()
        if done is None or connection not in self._connections:
            self._drop(connection)
        else:
            self._send(connection, self._taken(connection, done))

    def _send(self, connection: _Connection, data: bytes | memoryview) -> None:
        """Send what the client takes now, and see to what comes after."""
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(connection)
            return
        if sent < len(data):
            connection.outbox = memoryview(data)[sent:]
            if sent or connection.watched != _WRITE:
                connection.deadline = self._now + _SEND_SECONDS
            wanted = _WRITE
        elif connection.closing:
            self._finish(connection)
            return
        else:
            connection.outbox = b""
            connection.deadline = self._now + self.cfg.keepalive
            # Others first; the socket is writable, so the loop comes back to this one.
            wanted = _WRITE if connection.inbox else _READ
        if connection.watched != wanted:
            method = self._writable if wanted == _WRITE else self._readable
            self._watch(connection, wanted, method)

    def _writable(self, connection: _Connection, sock: socket.socket) -> None:
        if connection.outbox:
            self._send(connection, connection.outbox)
        else:
            self._advance(connection)

    def _finish(self, connection: _Connection) -> None:
        """The client has its last answer, or the kernel has."""
        if not connection.unread and not connection.inbox:
            self._drop(connection)
            return
        # To close with something unread would reset the connection, and the client might lose the
        # answer with it.
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_WR)
        connection.inbox = connection.outbox = b""
        connection.deadline = self._now + _LINGER_SECONDS
        self._watch(connection, _READ, self._discard)

    def _discard(self, connection: _Connection, sock: socket.socket) -> None:
        try:
            data = sock.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)

    def _watch(self, connection: _Connection, events: int, method: Any) -> None:
        call = self.poller.modify if connection.watched else self.poller.register
        call(connection.sock, events, partial(method, connection))
        connection.watched = events

    def _drop(self, connection: _Connection) -> None:
        if connection.watched:
            self.poller.unregister(connection.sock)
            connection.watched = 0
        connection.sock.close()
        self._connections.discard(connection)
