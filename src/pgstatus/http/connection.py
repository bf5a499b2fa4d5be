"""One client's connection: what it sent, what it has yet to take, and until when it may wait.

The socket never blocks. Requests that the memo knows are answered with its bytes, others through
`exchange`; always in their order, and no client gets more than its share of a turn of the loop.
"""

import contextlib
import logging
import math
import socket
import ssl
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from pgstatus.core.note import OTHER, MustWait, Note
from pgstatus.http.poller import READ, WRITE
from pgstatus.http.tls import TlsSocket
from pgstatus.http.wsgi import Exchange, exchange, last_words
from pgstatus.telemetry.counters import RequestKind, Tally

if TYPE_CHECKING:
    from pgstatus.http.worker import FastLaneWorker

log = logging.getLogger(__name__)

_HEAD_END = b"\r\n\r\n"
_RECEIVE = 16 * 1024
# A client that sends many requests at once gets this many answers, or bytes, before it is others'
# turn, and no more before it has taken those.
_BURST = 16
_BURST_BYTES = 64 * 1024
# Seconds that a client has for the head of a request once it has begun it, for taking any part of
# its answer, and for closing its end after our last answer.
_HEAD_SECONDS = 10.0
_SEND_SECONDS = 30.0
_LINGER_SECONDS = 2.0
_REFUSAL = last_words("503 Service Unavailable", "too many connections", "Retry-After: 1")
_REFUSED = RequestKind(OTHER, "503", fell_back=False)


class Connection:
    """Made with a socket that does not block; `start` or `refuse` comes next."""

    __slots__ = (
        "_client",
        "_closing",
        "_inbox",
        "_memo",
        "_outbox",
        "_retry_at",
        "_server",
        "_sock",
        "_unread",
        "_watched",
        "_worker",
        "deadline",
    )

    def __init__(
        self,
        worker: "FastLaneWorker",
        sock: socket.socket | TlsSocket,
        client: Any,
        server: Any,
    ) -> None:
        self._worker = worker
        self._memo = worker.memo
        self._sock = sock
        self._client = client
        self._server = server
        self.deadline = worker.now + worker.keepalive
        """Without progress until then it is to be closed."""
        self._inbox = b""
        """Received, not yet answered."""
        self._retry_at = 0
        """The length of an incomplete inbox that is worth another look."""
        self._outbox: bytes | memoryview = b""
        """Answered, not yet taken by the client."""
        self._watched = 0
        """What the poller watches it for; 0: it is not registered."""
        self._closing = False
        """What is in the outbox ends the connection."""
        self._unread = False
        """The client may be sending what nobody will read."""

    def start(self) -> None:
        """Look at once whether the first request is here already."""
        self._readable(self._sock)

    def refuse(self) -> None:
        """Answer whatever it asks with 503."""
        self.deadline = self._worker.now + _LINGER_SECONDS
        self._watch(READ, self._refused)

    def close(self) -> None:
        """Close it without a word."""
        if self._watched:
            self._worker.poller.unregister(self._sock)
            self._watched = 0
        self._sock.close()
        self._worker.connections.discard(self)

    def _refused(self, sock: Any) -> None:
        self._closing = self._unread = True
        self._worker.requests.of(_REFUSED).count += 1
        self._send(_REFUSAL)

    def _readable(self, sock: Any) -> None:
        try:
            data = sock.recv(_RECEIVE)
        except BlockingIOError:
            if self._watched != READ:
                self._watch(READ, self._readable)
            return
        except OSError:
            data = b""
        worker = self._worker
        if not data:
            self.close()
        elif not self._inbox and (answer := self._memo.find(data, worker.now)) is not None:
            answer.tally.count += 1
            self._closing = answer.close
            self._send(answer.data)
        else:
            self._inbox += data
            self._advance()

    def _advance(self) -> None:
        """Answer what is complete in the inbox, in order, as far as it is this client's turn."""
        answers: list[bytes] = []
        size = 0
        while self._inbox and not self._closing and len(answers) < _BURST and size < _BURST_BYTES:
            try:
                answer = self._next()
            except MustWait:
                if not answers:
                    self._wait()
                    return
                break
            if answer is None:
                break
            answers.append(answer)
            size += len(answer)
        if answers:
            self._send(b"".join(answers))
        elif self._watched != READ:
            self._watch(READ, self._readable)

    def _next(self) -> bytes | None:
        """The answer to the first request in the inbox; None while that is not complete."""
        worker, inbox = self._worker, self._inbox
        end = inbox.find(_HEAD_END) + len(_HEAD_END)
        if end < len(_HEAD_END) and len(inbox) < self._retry_at:
            return None
        head = inbox[:end]
        kept = self._memo.find(head, worker.now)
        if kept is not None:
            kept.tally.count += 1
            return self._taken(Exchange(kept.data, end, close=kept.close))
        note = self._memo.note(head)
        made = exchange(worker, inbox, self._client, self._server, note, close=not worker.alive)
        if made is None:
            if not self._retry_at:
                self.deadline = worker.now + _HEAD_SECONDS
            # So that a client that sends byte by byte is not parsed byte by byte.
            self._retry_at = 2 * len(inbox)
            return None
        tally = self._count(made)
        if made.used == end and not made.unread and worker.alive:
            self._memo.keep(head, made.answer, note, tally, close=made.close)
        return self._taken(made)

    def _count(self, made: Exchange) -> Tally:
        tally = self._worker.requests.of(made.kind)
        tally.count += 1
        return tally

    def _taken(self, done: Exchange) -> bytes:
        self._inbox = self._inbox[done.used :]
        self._retry_at = 0
        self._closing = done.close
        self._unread = done.unread
        return done.answer

    def _wait(self) -> None:
        """Have a thread make the answer; until then this client is not listened to."""
        worker = self._worker
        if self._watched:
            worker.poller.unregister(self._sock)
            self._watched = 0
        self.deadline = math.inf
        future = worker.tpool.submit(
            exchange,
            worker,
            self._inbox,
            self._client,
            self._server,
            Note(stranger=self._memo.stranger),
            close=not worker.alive,
        )
        future.add_done_callback(partial(worker.method_queue.defer, self._waited))

    def _waited(self, future: "Future[Exchange | None]") -> None:
        done = future.result()
        if done is None or self not in self._worker.connections:
            self.close()
        else:
            self._count(done)
            self._send(self._taken(done))

    def _send(self, data: bytes | memoryview) -> None:
        """Send what the client takes now, and see to what comes after."""
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        worker = self._worker
        if sent < len(data):
            self._outbox = memoryview(data)[sent:]
            if sent or self._watched != WRITE:
                self.deadline = worker.now + _SEND_SECONDS
            wanted = WRITE
        elif self._closing:
            self._finish()
            return
        else:
            # Of an incomplete head only so much more can be waited for.
            self.deadline = worker.now + (_HEAD_SECONDS if self._retry_at else worker.keepalive)
            # Others first; the socket is writable, so the loop comes back to this one.
            wanted = WRITE if self._inbox else READ
        if self._watched != wanted:
            self._watch(wanted, self._writable if wanted == WRITE else self._readable)

    def _writable(self, sock: Any) -> None:
        outbox, self._outbox = self._outbox, b""
        if outbox:
            self._send(outbox)
        else:
            self._advance()

    def _finish(self) -> None:
        """The client has its last answer, or the kernel has."""
        if not self._unread and not self._inbox:
            self.close()
            return
        # To close with something unread would reset the connection, and the client might lose the
        # answer with it.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        self._inbox = b""
        self.deadline = self._worker.now + _LINGER_SECONDS
        self._watch(READ, self._discard)

    def _discard(self, sock: Any) -> None:
        try:
            data = sock.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()

    def _watch(self, events: int, callback: Any) -> None:
        poller = self._worker.poller
        call = poller.modify if self._watched else poller.register
        call(self._sock, events, callback)
        self._watched = events


class TlsConnection(Connection):
    """The same, encrypted."""

    __slots__ = ("_tls",)

    def __init__(
        self,
        worker: "FastLaneWorker",
        sock: socket.socket,
        client: Any,
        server: Any,
        context: ssl.SSLContext,
    ) -> None:
        self._tls = TlsSocket(sock, context)
        super().__init__(worker, self._tls, client, server)
        if context.verify_mode != ssl.CERT_NONE:
            self._memo = worker.memo_of_strangers

    def start(self) -> None:
        """Shake hands first."""
        self.deadline = self._worker.now + _HEAD_SECONDS
        self._shake_hands()

    def refuse(self) -> None:
        # To say why would take a handshake.
        self._worker.requests.of(_REFUSED).count += 1
        self.close()

    def _shake_hands(self, sock: Any = None) -> None:
        try:
            wanted = self._tls.shake_hands()
        except OSError as error:
            log.debug("TLS with %s failed: %s", self._client, error)
            self.close()
            return
        if wanted:
            self._watch(wanted, self._shake_hands)
            return
        if self._tls.has_certificate:
            self._memo = self._worker.memo
        self.deadline = self._worker.now + self._worker.keepalive
        self._watch(READ, self._readable)
        # The first request may have come with the end of the handshake.
        self._readable(self._tls)
