"""The gunicorn worker: accepts connections and runs the event loop, in the calling thread.

A request in the response cache costs a `recv`, a dictionary lookup and a `send`. Others are parsed
by gunicorn and answered by the Falcon application in the loop, which takes less time than handing
them to a thread. All sockets belong to the loop and none of them blocks, so a slow client delays
only itself.
"""

import errno
import logging
import resource
import socket
import ssl
from collections.abc import Callable, Sequence

from gunicorn.workers.base import Worker

from pgstatus.http.connection import Connection
from pgstatus.http.listener import BACKLOG
from pgstatus.http.loop import READ
from pgstatus.http.shared import Backend, Shared
from pgstatus.http.tls_connection import TlsConnection
from pgstatus.telemetry.counters import Requests, Watchers

log = logging.getLogger(__name__)

KEEPALIVE = 75.0
"""Seconds that an idle connection stays open."""
CONNECTIONS = 4096
"""Connections at most, as far as the limit of open files allows."""
WATCHERS = 8192
"""Subscribers of event streams at most; they do not count as connections."""
ENCRYPTED_WATCHERS = 4096
"""The same with TLS: OpenSSL takes 17 KiB for each of them."""

# New connections in one turn of the loop.
_ACCEPTS = 64
# Connections beyond the limit that are answered with 503; further ones wait in the backlog.
_REFUSALS = 100
# Idle connections that are closed at a time in favour of new ones.
_EVICTIONS = 64
# Files that are not connections of clients: of logs, wake-ups, requests for names; and those of
# hosts, two for each: during a reload two monitors check it.
_OTHER_FILES = 100
_FILES_OF_HOSTS = 100
_FILES_PER_HOST = 2
# Seconds that connections have for their last requests when the worker stops.
_FAREWELL = 0.7
_NO_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
# Errors of one pending connection; the next one may be good. Source: accept(2), "Error handling".
_CONNECTION_ERRORS = frozenset(
    (
        errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENOPROTOOPT, errno.EHOSTDOWN,
        errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH, errno.ENETDOWN,
    )
)  # fmt: skip
# At most one such message a minute: the cause usually persists.
_LOG_EVERY = 60.0


def connection_limits(connections: int, watchers: int, hosts: int = 0) -> tuple[int, int]:
    """Raise the limit of open files as far as these connections, and the checks of so many hosts,
    need it; how many connections of each kind fit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    others = _REFUSALS + _OTHER_FILES + max(_FILES_OF_HOSTS, hosts * _FILES_PER_HOST)
    need = connections + watchers + others
    if soft != resource.RLIM_INFINITY and soft < need:
        raised = need if hard == resource.RLIM_INFINITY else min(need, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        except (OSError, ValueError) as error:
            log.warning("cannot raise the limit of open files from %d: %s", soft, error)
    if soft == resource.RLIM_INFINITY:
        return connections, watchers
    if hosts * _FILES_PER_HOST > soft // 2:
        log.warning("the limit of open files, %d, is too low for the checks of %d hosts; "
                    "set it to %d or more", soft, hosts, 2 * others)  # fmt: skip
    fit = soft - min(others, soft // 2)
    connections = min(connections, max(fit - watchers, fit // 2, 1))
    return connections, min(watchers, fit - connections)


class EventLoopWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """One worker without an arbiter. `run` serves until `stop`."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        backend: Backend,
        requests: Requests,
        watchers: Watchers,
        tls: Callable[[], ssl.SSLContext | None],
        *,
        keepalive: float = KEEPALIVE,
        connections: int = CONNECTIONS,
        on_turn: Callable[[], object] = lambda: None,
        hosts: Callable[[], int] = lambda: 0,
    ) -> None:
        """``tls`` returns the context for new connections, or None; ``on_turn`` is called in the
        loop about once a second, and after `Shared.loop.wake`; ``hosts`` returns how many hosts are
        checked, for which files have to be left.
        """
        # Not the base class's: it opens the heartbeat file that an arbiter watches.
        self.sockets = listeners
        self.alive = True
        self.shared = Shared(backend, requests, watchers, keepalive=keepalive)
        self.shared.loop.on_error = self._failed
        self._tls = tls
        self._on_turn = on_turn
        self._connections = connections
        self._hosts = hosts
        self._hosts_now = -1
        self._limit = self._watcher_limit = 0
        self._accepting = False
        self._logged_at = float("-inf")
        self._requested_certificates = _requests_certificates(tls())
        self._next_sweep = self.shared.loop.now
        self._set_limits()

    def init_process(self) -> None:
        """Serve. The process is set up by `daemon.process`, not by an arbiter."""
        self.run()

    def stop(self) -> None:
        """End `run`. Safe in any thread and in signal handlers."""
        self.alive = False
        self.shared.loop.wake()

    def run(self) -> None:
        """Serve until `stop`, then give open connections a moment to finish."""
        shared = self.shared
        for listener in self.sockets:
            listener.setblocking(False)
        self._accept(True)
        while self.alive:
            self._turn(1.0)
        self._end_accepting()
        shared.is_stopping = True
        shared.streams.close()
        # From here on every response ends its connection.
        shared.forget()
        end = shared.loop.now + _FAREWELL
        while shared.connections and (left := end - shared.loop.now) > 0:
            self._turn(left)
        self._close_connections()
        shared.loop.close()

    def _end_accepting(self) -> None:
        """Take the connections that wait, which would be reset, and refuse further ones."""
        for listener in self.sockets:
            for _ in range(BACKLOG // _ACCEPTS):
                self._accept_from(listener)
        self._accept(False)
        for listener in self.sockets:
            listener.close()

    def _turn(self, timeout: float) -> None:
        shared = self.shared
        shared.loop.turn(timeout)
        try:
            self._on_turn()
            if shared.loop.now >= self._next_sweep:
                self._next_sweep = shared.loop.now + 1.0
                self._sweep()
        except Exception:
            self._failed(None)

    def _sweep(self) -> None:
        """Once a second: close the connections that are too slow."""
        now = self.shared.loop.now
        for connection in [c for c in self.shared.connections if c.deadline < now]:
            connection.close()
        requests_certificates = _requests_certificates(self._tls())
        if requests_certificates and not self._requested_certificates:
            # After a reload: no client has presented one.
            self._close_connections()
        self._set_limits()
        self._requested_certificates = requests_certificates
        if self.alive:
            self._accept(True)

    def _set_limits(self) -> None:
        hosts = self._hosts()
        if hosts != self._hosts_now:  # at the start, and after a reload
            self._hosts_now = hosts
            limits = connection_limits(self._connections, WATCHERS, hosts)
            self._limit, self._watcher_limit = limits
        is_plain = self._tls() is None
        limit = self._watcher_limit if is_plain else min(self._watcher_limit, ENCRYPTED_WATCHERS)
        self.shared.streams.limit = limit

    def _close_connections(self) -> None:
        for connection in list(self.shared.connections):
            connection.close()

    def _accept(self, enabled: bool) -> None:
        if enabled == self._accepting:
            return
        for number, listener in enumerate(self.sockets):
            if not enabled:
                self.shared.loop.unregister(listener)
                continue
            try:
                self.shared.loop.register(listener, READ, self._accept_from)
            except OSError as error:  # the kernel has no memory for it now
                self._log_failure(error)
                for registered in self.sockets[:number]:
                    self.shared.loop.unregister(registered)
                return
        self._accepting = enabled

    def _accept_from(self, listener: socket.socket) -> None:
        """Take the connections that wait."""
        shared = self.shared
        server = listener.getsockname()
        tls = self._tls()
        for _ in range(_ACCEPTS):
            if self._requesting >= self._limit + _REFUSALS:
                self._accept(False)
                return
            try:
                sock, client = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _CONNECTION_ERRORS:
                    continue
                self._log_failure(error)
                if error.errno in _NO_RESOURCES:
                    self._evict(at_least=0)
                # Until the next sweep; meanwhile connections wait in the backlog.
                self._accept(False)
                return
            sock.setblocking(False)
            if isinstance(server, str):
                client = ""  # the path of a client's socket, if it has one, identifies nothing
            connection = (
                Connection(shared, sock, client, server)
                if tls is None
                else TlsConnection(shared, sock, client, server, tls)
            )
            if self._requesting >= self._limit:
                self._evict(at_least=1)
            shared.connections.add(connection)
            if self._requesting > self._limit:
                connection.refuse()
            else:
                connection.start()

    @property
    def _requesting(self) -> int:
        """The number of connections that are not streams, which have a limit of their own."""
        return len(self.shared.connections) - self.shared.streams.count

    def _evict(self, at_least: int) -> None:
        """Close connections that have been idle longest, so that new ones, of probes, get in."""
        connections = self.shared.connections
        idle = sorted((c for c in connections if c.is_idle), key=lambda c: c.deadline)
        for connection in idle[: max(at_least, min(_EVICTIONS, len(connections) // 4))]:
            connection.close()

    def _failed(self, fileobj: object) -> None:
        """A callback has raised: a defect, or no memory. Its connection ends; the others go on."""
        now = self.shared.loop.now
        if now - self._logged_at >= _LOG_EVERY:
            self._logged_at = now
            log.exception("the HTTP server failed unexpectedly")
        for connection in [c for c in self.shared.connections if c.owns(fileobj)]:
            connection.close()
        if self._accepting and fileobj in self.sockets:
            self._accept(False)

    def _log_failure(self, error: OSError) -> None:
        now = self.shared.loop.now
        if now - self._logged_at >= _LOG_EVERY:
            self._logged_at = now
            log.error("cannot accept connections: %s", error.strerror)


def _requests_certificates(context: ssl.SSLContext | None) -> bool:
    return context is not None and context.verify_mode != ssl.CERT_NONE
