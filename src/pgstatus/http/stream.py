"""The connection of one subscriber, from the beginning of its stream to the end.

`Connection` hands its socket over with the response to ``/watch``.
"""

import contextlib
import math
import socket
from collections.abc import Callable
from typing import Any

from pgstatus.api.feeds import Feed
from pgstatus.http.loop import READ, WRITE
from pgstatus.http.shared import Shared

# Seconds that a subscriber has for taking an event.
_SEND_SECONDS = 30.0
# Bytes that the kernel holds for a subscriber that does not read; it uses twice as much.
_BUFFER = 16 * 1024
_RECEIVE = 16 * 1024


class Stream:
    """Made with the socket of a `Connection`; `start` comes next."""

    __slots__ = (
        "_feed", "_is_behind", "_is_closed", "_outbox", "_shared", "_sock", "_watched", "deadline",
    )  # fmt: skip

    is_idle = False
    """It is not closed in favour of other connections."""

    def __init__(self, shared: Shared, sock: Any, feed: Feed) -> None:
        self._shared = shared
        self._sock = sock
        self._feed = feed
        self._watched = 0
        """The events that the loop watches; 0: none."""
        self._is_closed = False
        self._outbox: bytes | memoryview = b""
        """Sent, not taken by the subscriber."""
        self._is_behind = False
        """There is a newer event than the one that is being sent."""
        self.deadline = math.inf
        """It is closed if the outbox is not empty then."""

    def start(self, head: bytes) -> None:
        """Send the head of the response and the latest event, then further events."""
        # A subscriber that has disappeared is detected when it does not confirm an event.
        with contextlib.suppress(OSError):  # a unix socket
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            self._sock.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_SEND_SECONDS * 1000)
            )
        shared = self._shared
        shared.connections.add(self)
        shared.streams.add(self._feed, self)
        self.push(head)
        if not self._is_closed:
            # By itself: all subscribers share these bytes.
            self.push(self._feed.event())

    def owns(self, fileobj: object) -> bool:
        """``fileobj`` is its socket."""
        return fileobj is self._sock

    def push(self, event: bytes) -> None:
        """Send an event; a subscriber that has not taken the last one gets the latest later."""
        if self._outbox:
            self._is_behind = True
            return
        # It also limits how many different events are held for slow subscribers. Their bytes are
        # not accounted for, because they are shared.
        self.deadline = self._shared.loop.now + _SEND_SECONDS
        self._send(event)

    def end(self) -> None:
        """End the stream."""
        self.close()

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        shared = self._shared
        shared.streams.discard(self._feed, self)
        if self._watched:
            shared.loop.forget(self._sock)
        self._sock.close()
        self._outbox = b""
        shared.connections.discard(self)

    def _send(self, data: bytes | memoryview) -> None:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(data):
            self._outbox = memoryview(data)[sent:]
            self._watch(WRITE, self._writable)
            return
        self.deadline = math.inf
        self._watch(READ, self._readable)

    def _writable(self, sock: Any) -> None:
        outbox, self._outbox = self._outbox, b""
        self._send(outbox)
        if self._outbox or self._is_closed:
            return
        if self._is_behind:
            self._is_behind = False
            self.push(self._feed.event())

    def _readable(self, sock: Any) -> None:
        """The subscriber has sent something after its request, or closed the connection."""
        try:
            data = sock.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()

    def _watch(self, events: int, callback: Callable[[Any], object]) -> None:
        if self._watched == events:
            return
        loop = self._shared.loop
        try:
            (loop.modify if self._watched else loop.register)(self._sock, events, callback)
        except OSError:  # the kernel has no memory for one more file
            self.close()
            return
        self._watched = events
