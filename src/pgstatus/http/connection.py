"""The connection of one client.

The socket never blocks. Requests in the response cache are answered from there, others by the
backend, always in their order. A client that sends many requests at once gets a limited number of
responses before other clients have their turn.

::

    HANDSHAKE ──► READING ◄──► WRITING ──► DRAINING ──► CLOSED
                    │  ▲          ▲
                    ▼  └──────────┤
                  WAITING ────────┘        REFUSING ──► DRAINING
"""

import contextlib
import logging
import math
import socket
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from pgstatus.api.exchange import OTHER, Exchange, Response, Slow, Waiting
from pgstatus.api.feeds import Feed
from pgstatus.http.loop import END, READ, WRITE, Timer
from pgstatus.http.reply import Reply, malformed, refusal, reply
from pgstatus.http.shared import Shared
from pgstatus.http.stream import Stream
from pgstatus.http.tls import TlsSocket
from pgstatus.http.wsgi import HEAD_END, MAX_HEAD, Malformed, Request, parse
from pgstatus.telemetry.counters import RequestKind

log = logging.getLogger(__name__)

_RECEIVE = 16 * 1024
# Responses, or bytes of them, that a client gets before the others' turn, and at most before it has
# taken them.
_BURST = 16
_BURST_BYTES = 64 * 1024
# Seconds that a client has for the head of a request once it has begun, for taking any part of a
# response, and for closing its end after the last response.
HEAD_SECONDS = 10.0
_SEND_SECONDS = 30.0
_LINGER_SECONDS = 2.0
_TOO_MANY = refusal("503 Service Unavailable", "too many connections", ["Retry-After: 1"])
_NO_MEMORY = refusal("503 Service Unavailable", "too much unread data", ["Retry-After: 1"])
_TOO_MANY_WATCHERS = refusal("503 Service Unavailable", "too many subscribers", ["Retry-After: 5"])
REFUSED = RequestKind(OTHER, "503", fell_back=False)
_DEFECT = Response(
    status="500 Internal Server Error",
    headers=[("Content-Length", "0"), ("Cache-Control", "no-store")],
    body=b"",
    endpoint=OTHER,
    cacheable=False,
    fell_back=False,
    turns=None,
    choices=1,
    index=0,
)
_FAILED = Malformed("500 Internal Server Error", "Internal Server Error")


class State(Enum):
    """What a connection waits for."""

    HANDSHAKE = auto()
    """The TLS handshake, or its turn to begin it."""
    READING = auto()
    """A request, or the rest of one."""
    WAITING = auto()
    """The response to a request; the client is not read meanwhile."""
    WRITING = auto()
    """The client, to take a response; or its turn, with more requests received."""
    REFUSING = auto()
    """The first bytes, which are answered with 503."""
    DRAINING = auto()
    """The end of the client's data, after the last response: to close a socket with unread data
    would reset the connection, and the client might lose the response."""
    CLOSED = auto()
    """Closed, or handed over to a `Stream`."""


class Connection:
    """Made with a non-blocking socket; `start` or `refuse` comes next."""

    __slots__ = (
        "_buffered", "_cache", "_client", "_closing", "_feed", "_inbox", "_outbox", "_retry_at",
        "_server", "_shared", "_sock", "_stop", "_timer", "_unread", "_waiting", "_watched",
        "deadline", "state",
    )  # fmt: skip

    def __init__(
        self, shared: Shared, sock: socket.socket | TlsSocket, client: Any, server: Any
    ) -> None:
        self._shared = shared
        self._cache = shared.cache
        self._sock: Any = sock
        self._client = client
        self._server = server
        self.state = State.READING
        self.deadline = shared.loop.now + shared.keepalive
        """The connection is closed if nothing happens until then."""
        self._inbox = b""
        """Received, not answered."""
        self._retry_at = 0
        """The length of an incomplete inbox that is worth parsing again."""
        self._outbox: bytes | memoryview = b""
        """Answered, not taken by the client."""
        self._buffered = 0
        """Bytes of both that are accounted for."""
        self._watched = 0
        """The events that the loop watches; 0: none."""
        self._closing = False
        """The connection ends after the outbox."""
        self._unread = False
        """The client may be sending data that is not read."""
        self._feed: Feed | None = None
        """The response is the beginning of this stream."""
        self._waiting: Request | None = None
        """The request that waits for a host or an event."""
        self._stop: Callable[[], object] | None = None
        """Of the wait in progress."""
        self._timer: Timer | None = None

    @property
    def is_idle(self) -> bool:
        """No request is being answered: it may be closed in favour of another connection."""
        return self.state is State.READING or self.state is State.HANDSHAKE

    def owns(self, fileobj: object) -> bool:
        """``fileobj`` is the socket of this connection."""
        return fileobj is self._sock

    def start(self) -> None:
        """Read the first request if it has been received."""
        self._readable(self._sock)

    def refuse(self) -> None:
        """Answer the first request with 503."""
        self.deadline = self._shared.loop.now + _LINGER_SECONDS
        self._enter(State.REFUSING, READ, self._refused)

    def close(self) -> None:
        """Close the connection without a response."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self._stop_waiting()
        shared = self._shared
        if self._watched:
            shared.loop.forget(self._sock)
            self._watched = 0
        self._sock.close()
        if self._buffered:
            shared.buffer(-self._buffered)
            self._buffered = 0
        shared.connections.discard(self)

    def _enter(self, state: State, events: int, callback: Callable[[Any], object]) -> None:
        self.state = state
        loop = self._shared.loop
        try:
            (loop.modify if self._watched else loop.register)(self._sock, events, callback)
        except OSError as error:  # the kernel has no memory for one more file
            log.error("cannot watch a connection: %s", error.strerror)
            self.close()
            return
        self._watched = events

    def _refused(self, sock: Any) -> None:
        self._closing = self._unread = True
        self._shared.requests.of(REFUSED).count += 1
        self._send(_TOO_MANY)

    def _readable(self, sock: Any) -> None:
        try:
            data = sock.recv(_RECEIVE)
        except BlockingIOError:
            if self._watched != READ:
                self._enter(State.READING, READ, self._readable)
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        if not self._inbox:
            found = self._cache.find(data, self._shared.loop.now)
            if found is not None:
                found.tally.count += 1
                self._closing = found.closes
                self._send(found.data)
                return
        self._inbox += data
        self._advance()

    def _advance(self) -> None:
        """Answer the complete requests of the inbox, in order, while it is this client's turn."""
        parts: list[bytes] = []
        size = 0
        while self._inbox and not self._closing and len(parts) < _BURST and size < _BURST_BYTES:
            found = self._next(may_wait=not parts)
            if not isinstance(found, bytes):
                if found is State.WAITING and not parts:
                    return
                break
            parts.append(found)
            size += len(found)
        if self._feed is not None:
            self._hand_over(self._feed, b"".join(parts))
        elif parts:
            self._send(b"".join(parts))
        elif self._account() and (self._watched != READ or self.state is not State.READING):
            self._enter(State.READING, READ, self._readable)

    def _next(self, *, may_wait: bool) -> bytes | State | None:
        """The response to the first request of the inbox; None: it is not complete.

        WAITING: it has to wait. If the connection may not do so now, because responses before it
        are to be sent first, nothing has happened.
        """
        shared, inbox = self._shared, self._inbox
        end = inbox.find(HEAD_END) + len(HEAD_END)
        if end < len(HEAD_END) and len(inbox) < self._retry_at:
            return None
        head = inbox[:end]
        found = self._cache.find(head, shared.loop.now)
        if found is not None:
            return self._taken(found, end)
        request = self._parse(inbox)
        if request is None:
            if not self._retry_at:
                self.deadline = shared.loop.now + HEAD_SECONDS
            # A client that sends byte by byte is not parsed byte by byte.
            self._retry_at = min(2 * len(inbox), MAX_HEAD + 1)
            return None
        if isinstance(request, Malformed):
            return self._taken(self._reject(request), len(inbox))
        return self._answer(request, head, may_wait=may_wait)

    def _answer(self, request: Request, head: bytes, *, may_wait: bool) -> bytes | State:
        exchange = Exchange(
            may_defer=True,
            certificate_missing=self._cache.certificate_missing,
            turn=self._cache.turn(head),
        )
        response = self._respond(request, exchange)
        if _subscribes(response) and self._shared.streams.is_full:
            return self._taken(self._without_place(request), len(self._inbox))
        if isinstance(response, Waiting | Slow):
            if not may_wait or self._defer(request, response):
                return State.WAITING
            response = self._respond(request, self._without_deferring())
        if response.feed is not None and not may_wait:
            return State.WAITING
        made = self._reply(request, response)
        if request.size == len(head) and not made.unread and not self._shared.is_stopping:
            self._cache.store(head, response, made)
        return self._taken(made, request.size)

    def _parse(self, data: bytes) -> Request | Malformed | None:
        try:
            return parse(data, self._client, self._server)
        except Exception:
            log.exception("the parser failed")
            return _FAILED

    def _respond(self, request: Request, exchange: Exchange) -> Any:
        """Response, Waiting or Slow; without ``may_defer`` always a response."""
        try:
            return self._shared.backend.respond(request.environ, exchange)
        except Exception:
            log.exception("the response to a request failed")
            return _DEFECT

    def _without_deferring(self) -> Exchange:
        return Exchange(certificate_missing=self._cache.certificate_missing)

    def _reply(self, request: Request, response: Response) -> Reply:
        kind = RequestKind(
            response.endpoint, response.status[:3], response.fell_back, response.cluster
        )
        tally = self._shared.requests.of(kind)
        made = reply(request, response, tally, last=self._shared.is_stopping)
        made.dated(self._cache.date)
        return made

    def _without_place(self, request: Request) -> Reply:
        path = str(request.environ["PATH_INFO"])
        tally = self._shared.requests.of(RequestKind(path, "503", fell_back=False))
        made = Reply(_TOO_MANY_WATCHERS, b"", tally, closes=True, unread=True)
        made.dated(b"")
        return made

    def _reject(self, found: Malformed) -> Reply:
        tally = self._shared.requests.of(RequestKind(OTHER, found.status[:3], fell_back=False))
        made = malformed(found, tally)
        made.dated(b"")
        return made

    def _taken(self, made: Reply, size: int) -> bytes:
        """The bytes of a response that is sent next, to a request of ``size`` bytes."""
        made.tally.count += 1
        self._inbox = self._inbox[size:]
        self._retry_at = 0
        self._closing = made.closes
        self._unread = made.unread
        self._feed = made.feed
        return made.data

    def _hand_over(self, feed: Feed, opening: bytes) -> None:
        """The rest of the connection is a stream, and the client sends nothing more."""
        shared = self._shared
        self.state = State.CLOSED
        shared.buffer(-self._buffered)
        shared.connections.discard(self)
        if self._watched:
            shared.loop.unregister(self._sock)
        Stream(shared, self._sock, feed).start(opening)

    def _defer(self, request: Request, how: Waiting | Slow) -> bool:
        """Answer later; False: there is no thread, or too many requests wait."""
        shared = self._shared
        if isinstance(how, Slow):

            def work() -> Callable[[], object]:
                response = self._respond(request, self._without_deferring())
                return lambda: self._responded(request, response)

            if not shared.run_in_thread(work):
                return False
        else:
            self._stop = shared.wait(how, lambda: shared.loop.call(lambda: self._resume(request)))
            if self._stop is None:
                return False
            self._waiting = request
            self._timer = shared.loop.call_at(
                shared.loop.now + how.seconds, lambda: self._resume(request)
            )
        self.deadline = math.inf
        if isinstance(how, Waiting) and isinstance(how.subject, Feed):
            # Clients give up long polls and begin new ones, which need their places.
            self._enter(State.WAITING, END, lambda sock: self.close())
            return True
        self.state = State.WAITING
        if self._watched:
            shared.loop.unregister(self._sock)
            self._watched = 0
        return True

    def _resume(self, request: Request) -> None:
        """The question is answered, or the time is over."""
        if self._waiting is request:  # not for the second time
            self._stop_waiting()
            self._responded(request, self._respond(request, self._without_deferring()))

    def _stop_waiting(self) -> None:
        self._waiting = None
        if self._stop is not None:
            self._stop()
            self._stop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _responded(self, request: Request, response: Response) -> None:
        if self.state is not State.WAITING:
            return
        try:
            self._send(self._taken(self._reply(request, response), request.size))
        except Exception:  # the loop does not know whose call has failed
            self.close()
            raise

    def _send(self, data: bytes | memoryview) -> None:
        """Send what the client takes now, and wait for what comes next."""
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        shared = self._shared
        if sent < len(data):
            self._outbox = memoryview(data)[sent:]
            if sent or self._watched != WRITE:
                self.deadline = shared.loop.now + _SEND_SECONDS
            if not self._account():
                return
        elif self._closing:
            self._finish()
            return
        else:
            # The rest of a head has its own deadline.
            self.deadline = shared.loop.now + (HEAD_SECONDS if self._retry_at else shared.keepalive)
            if not self._inbox:
                if self._buffered:
                    self._account()
                if self._watched != READ:
                    self._enter(State.READING, READ, self._readable)
                return
        # With requests left, the others' turn comes first: the socket is writable, so the loop
        # returns to this one.
        if self._watched != WRITE:
            self._enter(State.WRITING, WRITE, self._writable)

    def _writable(self, sock: Any) -> None:
        outbox, self._outbox = self._outbox, b""
        if outbox:
            self._send(outbox)
        else:
            self._advance()

    def _account(self) -> bool:
        """Report what is buffered; False: it is too much, and the connection is closed."""
        held = len(self._inbox) + len(self._outbox)
        more, self._buffered = held - self._buffered, held
        if self._shared.buffer(more) or more <= 0:
            return True
        self._shared.requests.of(REFUSED).count += 1
        with contextlib.suppress(OSError):
            self._sock.send(_NO_MEMORY)
        self.close()
        return False

    def _finish(self) -> None:
        """The client, or the kernel, has the last response."""
        if not self._unread and not self._inbox:
            self.close()
            return
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        self._inbox = b""
        self._account()
        self.deadline = self._shared.loop.now + _LINGER_SECONDS
        self._enter(State.DRAINING, READ, self._drain)

    def _drain(self, sock: Any) -> None:
        try:
            data = sock.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()


def _subscribes(response: Response | Waiting | Slow) -> bool:
    """It needs a place among the subscribers."""
    if isinstance(response, Response):
        return response.feed is not None
    return isinstance(response, Waiting) and isinstance(response.subject, Feed)
