"""The worker: gunicorn's thread worker, with an event loop that answers from memory.

A request known by its exact bytes costs a recv, a look into a dictionary and a send. Every other
is parsed by gunicorn and answered by the app on the spot, which takes less time than handing it to
a thread; a thread is taken only for an answer that has to wait. Whatever a client does slowly, it
does to its own connection: all sockets belong to the loop and none of them ever blocks.
"""

import errno
import logging
import resource
import ssl
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from pgstatus import clock
from pgstatus.http.cache import ResponseCache
from pgstatus.http.connection import Connection, TlsConnection
from pgstatus.http.poller import READ, Poller
from pgstatus.telemetry.counters import Requests

log = logging.getLogger(__name__)

# So many new clients at once, then others' turn.
_ACCEPTS = 64
# Connections beyond the limit that are told so; more than these wait in the backlog.
_REFUSALS = 100
# Files that are not connections: hosts under watch, logs, pipes.
_OTHER_FILES = 200
# Seconds that connections have for their last requests when the worker stops: of the two in which
# it must be gone, with its command and its monitor.
_FAREWELL = 0.7
_NO_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


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


def _asks_for_certificates(context: ssl.SSLContext | None) -> bool:
    return context is not None and context.verify_mode != ssl.CERT_NONE


class FastLaneWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Needs of the application object: ``read``, which returns the newest snapshot, ``tls``, which
    returns the context for new connections or None, ``requests``, where answers are counted, and
    ``hurry``, after which no answer waits any more.
    """

    memo: ResponseCache
    memo_of_strangers: ResponseCache
    """For those who have shown no certificate where one is asked for."""
    requests: Requests
    poller: Poller

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: set[Connection] = set()
        self.keepalive = float(self.cfg.keepalive)
        self.now = clock.now()
        """When this turn of the loop began."""
        self._limit = 0
        self._asked = False
        """Client certificates were asked for at the last sweep."""
        self._next_sweep = self.now

    def load_wsgi(self) -> None:
        """Load the app, and what the fast lane needs of it."""
        super().load_wsgi()
        self.memo = ResponseCache(self.app.read, self.now)
        self.memo_of_strangers = ResponseCache(self.app.read, self.now, stranger=True)
        self.requests = self.app.requests
        self._limit = connection_limit(self.worker_connections)
        self._asked = _asks_for_certificates(self.app.tls())

    def run(self) -> None:
        """Serve until told to stop, then give open connections a moment to finish."""
        self.poller.close()
        self.poller = Poller()
        self.poller.register(self.method_queue.fileno(), READ, self.method_queue.run_callbacks)
        self.set_accept_enabled(True)
        while self.alive:
            self._turn(1.0)
        self.set_accept_enabled(False)
        self.app.hurry()
        # From here on every answer says that it is the last: none of the old ones will do.
        self.memo.forget()
        self.memo_of_strangers.forget()
        end = clock.now() + _FAREWELL
        while self.connections and (left := end - clock.now()) > 0:
            self._turn(left)
        for connection in list(self.connections):
            connection.close()
        self.tpool.shutdown(wait=False)
        self.poller.close()
        self.method_queue.close()
        for listener in self.sockets:
            listener.close()

    def _turn(self, timeout: float) -> None:
        ready = self.poller.wait(timeout)
        self.now = clock.now()
        self.poller.dispatch(ready)
        if self.now >= self._next_sweep:
            self._next_sweep = self.now + 1.0
            self._sweep()

    def _sweep(self) -> None:
        """Once a second: a sign of life for the arbiter, and the end of whoever is too slow."""
        self.notify()
        if not self.is_parent_alive():
            self.alive = False
        asks = _asks_for_certificates(self.app.tls())
        for connection in [c for c in self.connections if c.deadline < self.now]:
            connection.close()
        if asks and not self._asked:
            # Nobody has shown one yet.
            for connection in list(self.connections):
                connection.close()
        self._asked = asks
        if self.alive:
            self.set_accept_enabled(len(self.connections) < self._limit + _REFUSALS)

    def accept(self, listener: Any) -> None:
        """Take the connections that wait."""
        server = listener.getsockname()
        tls = self.app.tls()
        for _ in range(_ACCEPTS):
            if len(self.connections) >= self._limit + _REFUSALS:
                self.set_accept_enabled(False)
                return
            try:
                sock, client = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_RESOURCES:
                    raise
                log.error("cannot accept connections: %s", error.strerror)
                # Until the next sweep; meanwhile they wait in the backlog.
                self.set_accept_enabled(False)
                return
            sock.setblocking(False)
            if isinstance(server, str):
                client = ""  # a path, if it has one at all, says nothing
            connection = (
                Connection(self, sock, client, server)
                if tls is None
                else TlsConnection(self, sock, client, server, tls)
            )
            self.connections.add(connection)
            if len(self.connections) > self._limit:
                connection.refuse()
            else:
                connection.start()
