"""What all connections of the HTTP server share, and the limits that hold for all of them."""

import threading
from collections.abc import Callable
from typing import Protocol

from pgstatus.api.exchange import Exchange, Response, Slow, Waiting
from pgstatus.api.feeds import Feed
from pgstatus.core.selection import Question
from pgstatus.core.snapshot import Snapshot
from pgstatus.http.cache import ResponseCaches
from pgstatus.http.loop import Loop
from pgstatus.http.streams import Streams
from pgstatus.telemetry.counters import Requests, Watchers

# Bytes of incomplete requests and of responses that clients have not taken, over all connections:
# 4096 clients with 32 KiB each would exceed the memory limit of the systemd unit.
_MAX_BUFFERED = 24 * 2**20
# A handshake that has begun takes 46 KiB, most of them OpenSSL's.
MAX_HANDSHAKES = 256
_MAX_THREADS = 8


class OpenConnection(Protocol):
    """A connection, as far as its limits need it."""

    deadline: float
    """When it is closed if nothing happens."""

    @property
    def is_idle(self) -> bool:
        """No request is being answered."""

    def owns(self, fileobj: object) -> bool:
        """``fileobj`` is its socket."""

    def close(self) -> None:
        """Close it without a response."""


class Backend(Protocol):
    """What answers the requests. All methods return at once and are safe in any thread."""

    def read(self, cluster: str | None = None) -> Snapshot | None:
        """The latest snapshot of a cluster, None: there is no such cluster. Without a name: of the
        only cluster, or an empty one.
        """

    def respond(self, environ: dict[str, object], exchange: Exchange) -> Response | Waiting | Slow:
        """The response to a request."""

    def wait(
        self, cluster: str | None, question: Question, wake: Callable[[], None]
    ) -> Callable[[], object] | None:
        """Call ``wake`` when a snapshot answers the question; returns the function that stops
        waiting, or None if it is not possible now.
        """


class Shared:
    """For the thread of the event loop."""

    def __init__(
        self,
        backend: Backend,
        requests: Requests,
        watchers: Watchers,
        *,
        keepalive: float,
    ) -> None:
        self.loop = Loop()
        self.streams = Streams(self.loop, watchers)
        self.backend = backend
        self.requests = requests
        """The counters of responses."""
        self.keepalive = keepalive
        """Seconds that an idle connection stays open."""
        self.cache = ResponseCaches(backend.read)
        self.cache_without_certificate = ResponseCaches(backend.read, certificate_missing=True)
        self.connections: set[OpenConnection] = set()
        self.handshakes: dict[OpenConnection, float] = {}
        """When each TLS handshake in progress began, the oldest first."""
        self.is_stopping = False
        self.buffered = 0
        """Bytes that `buffer` has accounted for."""
        self._threads = 0

    def forget(self) -> None:
        """Send no earlier response again."""
        self.cache.clear()
        self.cache_without_certificate.clear()

    def buffer(self, more: int) -> bool:
        """Account for ``more`` bytes (fewer, if negative); False: the limit is exceeded."""
        self.buffered += more
        return self.buffered <= _MAX_BUFFERED

    def wait(self, what: Waiting, wake: Callable[[], None]) -> Callable[[], object] | None:
        """Call ``wake`` when the subject has an answer, or an event; returns the function that
        stops waiting, or None if waiting is not possible now.
        """
        if isinstance(what.subject, Feed):
            return self.streams.wait(what.subject, wake)
        return self.backend.wait(what.cluster, what.subject, wake)

    def run_in_thread(self, work: Callable[[], Callable[[], object]]) -> bool:
        """Run ``work`` in a thread, and what it returns in the loop; False: there is no thread."""
        if self._threads >= _MAX_THREADS:
            return False

        def done(then: Callable[[], object] | None) -> None:
            self._threads -= 1
            if then is not None:
                then()

        def run() -> None:
            then: Callable[[], object] | None = None
            try:
                then = work()
            finally:
                self.loop.call(lambda: done(then))

        try:
            threading.Thread(target=run, name="request", daemon=True).start()
        except (RuntimeError, MemoryError):  # can't start new thread
            return False
        self._threads += 1
        return True
