"""HTTP requests with one deadline each, for asyncio and for threads.

The exceptions of the HTTP library become those of the client here and nowhere else.
"""

import asyncio
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpcore2

from pgstatus.client.compat import timeout
from pgstatus.client.deadline import DeadlineBackend, is_readable
from pgstatus.client.endpoint import Endpoint
from pgstatus.client.errors import ClientError, DeadlineError, UnreachableError
from pgstatus.client.handshake import HandshakeBackend
from pgstatus.client.response import Response

# On Python 3.10, asyncio has a TimeoutError of its own.
_TIMEOUTS = (httpcore2.TimeoutException, TimeoutError, asyncio.TimeoutError)
_FAILURES = (
    *_TIMEOUTS,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    OSError,
    UnicodeError,  # the host name is invalid
)


class AsyncTransport:
    """Connections to one pg-status, for asyncio."""

    def __init__(self, endpoint: Endpoint, max_connections: int) -> None:
        self._endpoint = endpoint
        self._max_connections = max_connections
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: httpcore2.AsyncConnectionPool | None = None

    async def get(self, target: str, deadline: float) -> Response:
        """The response, within ``deadline`` seconds. DeadlineError, UnreachableError."""
        url = self._endpoint.origin + target
        extensions = _extensions(self._endpoint)
        try:
            async with timeout(deadline):
                response = await self._open().request(
                    "GET", url, headers=self._endpoint.headers, extensions=extensions
                )
        except _FAILURES as error:
            raise _translated(error, url) from error
        return Response(url, response.status, response.content)

    async def close(self) -> None:
        """Close all connections. The next request opens a new one."""
        pool, self._pool = self._pool, None
        if pool is not None and self._loop is asyncio.get_running_loop():
            await pool.aclose()

    def _open(self) -> httpcore2.AsyncConnectionPool:
        loop = asyncio.get_running_loop()
        if self._pool is None or loop is not self._loop:
            # The connections of another event loop cannot be used, nor closed.
            self._loop = loop
            self._pool = httpcore2.AsyncConnectionPool(
                ssl_context=self._endpoint.ssl_context,
                max_connections=self._max_connections,
                uds=self._endpoint.uds,
                network_backend=HandshakeBackend() if self._endpoint.ssl_context else None,
            )
        return self._pool


class Transport:
    """Connections to one pg-status, for threads."""

    def __init__(self, endpoint: Endpoint, max_connections: int) -> None:
        self._endpoint = endpoint
        self._max_connections = max_connections
        self._pid = 0
        self._pool: httpcore2.ConnectionPool | None = None

    def get(self, target: str, deadline: float) -> Response:
        """The response, within ``deadline`` seconds. DeadlineError, UnreachableError."""
        url = self._endpoint.origin + target
        until = time.monotonic() + deadline
        extensions = _extensions(self._endpoint)
        # See DeadlineBackend. The wait for a connection in the pool takes no point in time.
        extensions["timeout"] = {
            "pool": deadline,
            "connect": until,
            "write": until,
            "read": until,
        }
        try:
            response = self._open().request(
                "GET", url, headers=self._endpoint.headers, extensions=extensions
            )
        except _FAILURES as error:
            raise _translated(error, url) from error
        return Response(url, response.status, response.content)

    def close(self) -> None:
        """Close all connections. The next request opens a new one."""
        pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.close()

    def _open(self) -> httpcore2.ConnectionPool:
        pool = self._pool
        if pool is None or self._pid != os.getpid():
            # A forked child must not use the connections of its parent.
            self._pid = os.getpid()
            pool = self._pool = httpcore2.ConnectionPool(
                ssl_context=self._endpoint.ssl_context,
                max_connections=self._max_connections,
                uds=self._endpoint.uds,
                network_backend=DeadlineBackend(),
            )
        return pool


class EventSource:
    """A response with events, which does not end by itself. For one thread, except `interrupt`."""

    def __init__(self, url: str, response: httpcore2.Response, backend: DeadlineBackend) -> None:
        self.url = url
        self.status = response.status
        headers = {name.lower(): value for name, value in response.headers}
        content_type = headers.get(b"content-type", b"").partition(b";")[0]
        self.has_events = (
            self.status == 200 and content_type.strip().lower() == b"text/event-stream"
        )
        self._response = response
        self._backend = backend
        self._socket: socket.socket = response.extensions["network_stream"].get_extra_info("socket")

    @classmethod
    @contextmanager
    def open(cls, endpoint: Endpoint, target: str, deadline: float) -> "Iterator[EventSource]":
        """The response, within ``deadline`` seconds. DeadlineError, UnreachableError."""
        url = endpoint.origin + target
        until = time.monotonic() + deadline
        extensions = _extensions(endpoint)
        extensions["timeout"] = {"connect": until, "write": until, "read": until}
        backend = DeadlineBackend()
        pool = httpcore2.ConnectionPool(
            ssl_context=endpoint.ssl_context, uds=endpoint.uds, network_backend=backend
        )
        headers = endpoint.headers_for("text/event-stream")
        with ExitStack() as stack:
            try:
                stack.enter_context(pool)
                response = stack.enter_context(
                    pool.stream("GET", url, headers=headers, extensions=extensions)
                )
            except _FAILURES as error:
                raise _translated(error, url) from error
            yield cls(url, response, backend)

    def read(self, deadline: float) -> Iterator[bytes]:
        """The content as it arrives; the first part within ``deadline`` seconds, see `wait`."""
        self.wait(deadline)
        try:
            yield from self._response.iter_stream()
        except _FAILURES as error:
            raise _translated(error, self.url) from error

    def wait(self, seconds: float) -> None:
        """The next part has to arrive within these seconds from now on."""
        self._backend.until = time.monotonic() + seconds

    def has_unread(self) -> bool:
        """Whether something has arrived that is not processed yet, or the connection has ended.

        Safe in any thread.
        """
        if not hasattr(select, "poll"):
            return False  # Windows
        # In this order: what was in the socket before may be in process now.
        return is_readable(self._socket) or not self._backend.is_idle

    def interrupt(self) -> None:
        """End the response. Safe in any thread."""
        with suppress(OSError):
            # That of SSLSocket would disturb a read in progress.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def abandon(self) -> None:
        """Close the socket without an effect on the process that this one was forked from."""
        self._socket.close()


def _extensions(endpoint: Endpoint) -> dict[str, object]:
    return {} if endpoint.server_name is None else {"sni_hostname": endpoint.server_name}


def _translated(error: Exception, url: str) -> ClientError:
    if isinstance(error, _TIMEOUTS):
        return DeadlineError(f"pg-status did not respond within the deadline: {url}")
    return UnreachableError(f"no response from {url}: {error}")
