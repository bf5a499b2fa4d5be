"""The client for threads. Concurrent callers with one question share the first one's request."""

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

import httpcore2

from pgstatus.client import wire
from pgstatus.client.cache import AWAY, NOBODY, RETRY_SECONDS, Answers
from pgstatus.client.errors import UnreachableError
from pgstatus.client.model import ChosenHost, HostStatus
from pgstatus.client.wire import Question, Target, all_hosts, one_host, selection

T = TypeVar("T")


class PgStatusClient:
    """Asks the pg-status at ``url``: ``http://host:port``, ``https://…`` or ``unix:/path``.

    All times are in seconds. ``deadline`` bounds one request from connecting to its last byte (the
    resolution of the name is the system's). Answers are used again for ``max_age`` and, when
    pg-status does not answer, until they are ``stale_if_error`` old; after that ClientError. One
    object serves any number of threads; a forked child makes its own.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        deadline: float = 1.0,
        max_age: float = 0.1,
        stale_if_error: float = 10.0,
        max_connections: int = 10,
    ) -> None:
        self._target = Target.parse(url, token)
        self._deadline = deadline
        self._answers = Answers(max_age, stale_if_error)
        self._retry_at = 0.0
        self._lock = threading.Lock()
        self._flights: dict[Question[Any], Future[Any]] = {}
        self._pool = httpcore2.ConnectionPool(
            uds=self._target.uds,
            max_connections=max_connections,
            network_backend=_DeadlineBackend(),
        )

    def master(self) -> ChosenHost:
        """The master. NoHostError: there is none now; SplitBrainError: none of several is named."""
        return self._ask(selection("/master"))

    def replica(
        self,
        *,
        lag_ms: int | None = None,
        lag_bytes: int | None = None,
        min_lsn: str | None = None,
        wait_ms: int | None = None,
    ) -> ChosenHost:
        """A live replica within the limits, in turn; the master when none fits (see ``role``).

        ``min_lsn``: it has replayed up to there, ``HEX/HEX``, or ``TIMELINE:HEX/HEX`` and follows
        that timeline. ``wait_ms``: how long pg-status may wait for one, by default as configured.
        """
        asked = selection(
            "/replica", lag_ms=lag_ms, lag_bytes=lag_bytes, min_lsn=min_lsn, wait_ms=wait_ms
        )
        return self._ask(asked)

    def sync_by_time(self, *, lag_ms: int | None = None) -> ChosenHost:
        """A replica late by at most ``lag_ms``, by default pg-status's own limit; or the master."""
        return self._ask(selection("/sync_by_time", lag_ms=lag_ms))

    def sync_by_bytes(self, *, lag_bytes: int | None = None) -> ChosenHost:
        """A replica behind by at most ``lag_bytes``; or the master."""
        return self._ask(selection("/sync_by_bytes", lag_bytes=lag_bytes))

    def sync_by_time_or_bytes(
        self, *, lag_ms: int | None = None, lag_bytes: int | None = None
    ) -> ChosenHost:
        """A replica within one of the two limits; or the master."""
        asked = selection("/sync_by_time_or_bytes", lag_ms=lag_ms, lag_bytes=lag_bytes)
        return self._ask(asked)

    def sync_by_time_and_bytes(
        self, *, lag_ms: int | None = None, lag_bytes: int | None = None
    ) -> ChosenHost:
        """A replica within both limits; or the master."""
        asked = selection("/sync_by_time_and_bytes", lag_ms=lag_ms, lag_bytes=lag_bytes)
        return self._ask(asked)

    def most_sync_by_bytes(self, *, lag_bytes: int | None = None) -> ChosenHost:
        """The replica that is the fewest bytes behind; or the master."""
        return self._ask(selection("/most_sync_by_bytes", lag_bytes=lag_bytes))

    def hosts(self) -> tuple[HostStatus, ...]:
        """Every host, in the order of the configuration."""
        return self._ask(all_hosts())

    def status(self, host: str) -> HostStatus:
        """One host. NoHostError: pg-status does not know it."""
        return self._ask(one_host(host))

    def close(self) -> None:
        """Close the kept connections. The next question opens new ones."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, asked: Question[T]) -> T:
        now = time.monotonic()
        with self._lock:
            answer = self._answers.fresh(asked, now)
            if answer is None and now < self._retry_at:
                answer = self._answers.usable(asked, now)
            if answer is not None:
                return answer
            flight: Future[T] | None = self._flights.get(asked)
            leads = flight is None
            if flight is None:
                flight = self._flights[asked] = Future()
        if leads:
            self._fly(asked, flight)
        try:
            return flight.result()
        except AWAY:
            with self._lock:
                answer = self._answers.usable(asked, time.monotonic())
            if answer is None:
                raise
            return answer

    def _fly(self, asked: Question[T], flight: Future[T]) -> None:
        """Fetch the answer in this thread, for it and for those who wait for ``flight``."""
        asked_at = time.monotonic()
        try:
            answer = self._fetch(asked, asked_at + self._deadline)
        except BaseException as error:
            with self._lock:
                del self._flights[asked]
                if isinstance(error, AWAY):
                    self._retry_at = time.monotonic() + RETRY_SECONDS
                elif isinstance(error, NOBODY):
                    self._answers.forget(asked)
            if isinstance(error, Exception):
                flight.set_exception(error)
                return
            # An interrupt is for this thread alone.
            flight.set_exception(UnreachableError("the thread that was asking was interrupted"))
            raise
        with self._lock:
            del self._flights[asked]
            self._retry_at = 0.0
            self._answers.store(asked, answer, asked_at)
        flight.set_result(answer)

    def _fetch(self, asked: Question[T], until: float) -> T:
        url = self._target.url(asked)
        with wire.translated(url):
            response = self._pool.request(
                "GET",
                url,
                headers=self._target.headers,
                extensions={
                    "timeout": {
                        "pool": self._deadline,
                        "connect": until,
                        "write": until,
                        "read": until,
                    }
                },
            )
        return asked.read(asked, url, response.status, response.content)


def _left(until: float | None) -> float | None:
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("the deadline has passed")
    return left


class _DeadlineBackend(httpcore2.NetworkBackend):
    """The library's backend, with its timeouts read as points in time.

    A timeout for each step lets a server that sends a byte a second hold a caller for ever. Given
    the end of the whole request as every step's timeout, each step takes only what is left.
    """

    def __init__(self) -> None:
        self._backend = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        return _DeadlineStream(
            self._backend.connect_tcp(host, port, _left(timeout), local_address, socket_options)
        )

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        return _DeadlineStream(
            self._backend.connect_unix_socket(path, _left(timeout), socket_options)
        )

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class _DeadlineStream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout))

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
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, _left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
