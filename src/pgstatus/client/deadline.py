"""The network of the client for threads, with one deadline for a whole request.

The HTTP library has a timeout for each step: for each address of a name, for each read. A server
that sends one byte in each of them could block a thread without limit. Here the "timeout" of a step
is the point in time at which the whole request must have ended; a step takes only what is left.
"""

import select
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import httpcore2

Addresses = list[tuple[Any, ...]]


def _left(until: float | None) -> float | None:
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


class DeadlineBackend(httpcore2.NetworkBackend):
    """The library's backend with points in time as timeouts. It connects to one host only.

    ``until`` replaces the timeouts of a response that is in progress.
    """

    def __init__(self) -> None:
        self.until: float | None = None
        self.is_idle = False
        """All parts of that response that were read have been processed."""
        self._backend = httpcore2.SyncBackend()
        self._lookup: Future[Addresses] | None = None
        self._lock = threading.Lock()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        addresses = self._addresses(host, port, timeout)
        for index, (*_, address) in enumerate(addresses):
            left = _left(timeout)
            # An address that does not respond leaves time for the others.
            share = left and left / (len(addresses) - index)
            try:
                stream = self._backend.connect_tcp(
                    address[0], port, share, local_address, socket_options
                )
                return _DeadlineStream(stream, self)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if index == len(addresses) - 1:
                    raise
        raise OSError(f"no address for {host}")

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        with socket.socket(socket.AF_UNIX) as attempt:
            # The library does not close a socket that it could not connect.
            attempt.settimeout(_left(timeout))
            attempt.connect(path)
        stream = self._backend.connect_unix_socket(path, _left(timeout), socket_options)
        return _DeadlineStream(stream, self)

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)

    def _addresses(self, host: str, port: int, until: float | None) -> Addresses:
        try:
            return _look_up(host, port, socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass
        # A lookup cannot be interrupted. It runs in a thread, and the deadline ends the wait for
        # it; later requests wait for the same lookup instead of starting another one.
        with self._lock:
            lookup = self._lookup
            if lookup is None or lookup.done():
                lookup = self._lookup = Future()
                threading.Thread(
                    target=_complete,
                    args=(lookup, host, port),
                    name="pg-status-lookup",
                    daemon=True,
                ).start()
        try:
            return lookup.result(_left(until))
        except FutureTimeoutError as error:  # not TimeoutError before Python 3.11
            raise TimeoutError(f"the lookup of {host} did not end in time") from error


def is_readable(connection: socket.socket, seconds: float = 0.0) -> bool:
    """Whether something has arrived within this time, or the connection has ended.

    Safe in any thread. On Windows the answer is always true.
    """
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()  # each thread needs its own
    try:
        poll.register(connection, select.POLLIN)
    except ValueError:
        return True  # closed in the meantime
    return bool(poll.poll(1000 * seconds))


def _look_up(host: str, port: int, flags: int = 0) -> Addresses:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))


def _complete(lookup: "Future[Addresses]", host: str, port: int) -> None:
    try:
        lookup.set_result(_look_up(host, port))
    except Exception as error:
        lookup.set_exception(error)


class _DeadlineStream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, backend: DeadlineBackend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        until = self._backend.until
        if until is None:
            return self._stream.read(max_bytes, _left(timeout))
        self._backend.is_idle = True
        self._wait(until)
        self._backend.is_idle = False
        return self._stream.read(max_bytes, _left(until))

    def _wait(self, until: float) -> None:
        """Until something can be read. It is left in the socket."""
        connection = self._stream.get_extra_info("socket")
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return
        if not is_readable(connection, max(0.0, until - time.monotonic())):
            raise TimeoutError("nothing has arrived")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: Any,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _left(timeout))
        return _DeadlineStream(stream, self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
