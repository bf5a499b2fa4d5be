"""The client for asyncio.

Concurrent callers with one question share one request, which runs in a task of its own: a caller
that is cancelled takes nothing away from the others.
"""

import asyncio
import time
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import httpcore2

from pgstatus.client import wire
from pgstatus.client.cache import AWAY, NOBODY, RETRY_SECONDS, Answers
from pgstatus.client.model import ChosenHost, HostStatus
from pgstatus.client.wire import Question, Target, all_hosts, one_host, selection

T = TypeVar("T")


class AsyncPgStatusClient:
    """Asks the pg-status at ``url``: ``http://host:port``, ``https://…`` or ``unix:/path``.

    All times are in seconds. ``deadline`` bounds one request from connecting to its last byte.
    Answers are used again for ``max_age`` and, when pg-status does not answer, until they are
    ``stale_if_error`` old; after that ClientError. One object serves any number of tasks.
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
        self._max_connections = max_connections
        self._answers = Answers(max_age, stale_if_error)
        self._retry_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: httpcore2.AsyncConnectionPool | None = None
        self._flights: dict[Question[Any], asyncio.Task[Any]] = {}

    async def master(self) -> ChosenHost:
        """The master. NoHostError: there is none now; SplitBrainError: none of several is named."""
        return await self._ask(selection("/master"))

    async def replica(
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
        return await self._ask(asked)

    async def sync_by_time(self, *, lag_ms: int | None = None) -> ChosenHost:
        """A replica late by at most ``lag_ms``, by default pg-status's own limit; or the master."""
        return await self._ask(selection("/sync_by_time", lag_ms=lag_ms))

    async def sync_by_bytes(self, *, lag_bytes: int | None = None) -> ChosenHost:
        """A replica behind by at most ``lag_bytes``; or the master."""
        return await self._ask(selection("/sync_by_bytes", lag_bytes=lag_bytes))

    async def sync_by_time_or_bytes(
        self, *, lag_ms: int | None = None, lag_bytes: int | None = None
    ) -> ChosenHost:
        """A replica within one of the two limits; or the master."""
        asked = selection("/sync_by_time_or_bytes", lag_ms=lag_ms, lag_bytes=lag_bytes)
        return await self._ask(asked)

    async def sync_by_time_and_bytes(
        self, *, lag_ms: int | None = None, lag_bytes: int | None = None
    ) -> ChosenHost:
        """A replica within both limits; or the master."""
        asked = selection("/sync_by_time_and_bytes", lag_ms=lag_ms, lag_bytes=lag_bytes)
        return await self._ask(asked)

    async def most_sync_by_bytes(self, *, lag_bytes: int | None = None) -> ChosenHost:
        """The replica that is the fewest bytes behind; or the master."""
        asked = selection("/most_sync_by_bytes", lag_bytes=lag_bytes)
        return await self._ask(asked)

    async def hosts(self) -> tuple[HostStatus, ...]:
        """Every host, in the order of the configuration."""
        return await self._ask(all_hosts())

    async def status(self, host: str) -> HostStatus:
        """One host. NoHostError: pg-status does not know it."""
        return await self._ask(one_host(host))

    async def close(self) -> None:
        """Close the kept connections. The next question opens new ones."""
        self._enter_loop()
        pool, self._pool = self._pool, None
        flights, self._flights = tuple(self._flights.values()), {}
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        if pool is not None:
            await pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(self, asked: Question[T]) -> T:
        now = time.monotonic()
        answer = self._answers.fresh(asked, now)
        if answer is not None:
            return answer
        if now < self._retry_at and (answer := self._answers.usable(asked, now)) is not None:
            return answer
        try:
            return await asyncio.shield(self._flight(asked))
        except AWAY:
            answer = self._answers.usable(asked, time.monotonic())
            if answer is None:
                raise
            return answer

    def _flight(self, asked: Question[T]) -> asyncio.Task[T]:
        self._enter_loop()
        flight: asyncio.Task[T] | None = self._flights.get(asked)
        if flight is None:
            flight = asyncio.create_task(self._fetch(asked))
            self._flights[asked] = flight
            flight.add_done_callback(partial(self._landed, asked))
        return flight

    def _enter_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # A test suite runs one event loop after another; what belonged to the last is gone.
            self._loop, self._pool, self._flights = loop, None, {}

    def _landed(self, asked: Question[T], flight: asyncio.Task[T]) -> None:
        if self._flights.get(asked) is flight:
            del self._flights[asked]
        if not flight.cancelled():
            flight.exception()  # looked at: every caller may have been cancelled

    async def _fetch(self, asked: Question[T]) -> T:
        if self._pool is None:
            self._pool = httpcore2.AsyncConnectionPool(
                uds=self._target.uds,
                max_connections=self._max_connections,
            )
        url = self._target.url(asked)
        asked_at = time.monotonic()
        try:
            with wire.translated(url):
                async with asyncio.timeout(self._deadline):
                    response = await self._pool.request("GET", url, headers=self._target.headers)
            answer = asked.read(asked, url, response.status, response.content)
        except AWAY:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            raise
        except NOBODY:
            self._answers.forget(asked)
            raise
        self._retry_at = 0.0
        self._answers.store(asked, answer, asked_at)
        return answer
