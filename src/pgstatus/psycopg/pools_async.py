"""Pools of the master and of the replicas.

`pools` is generated from this file: ``make unasync``.
"""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Generic, cast

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout
from psycopg_pool.abc import AsyncConninfoParam, AsyncKwargsParam

from pgstatus.bookmarks.bookmark import Bookmark
from pgstatus.client import AsyncPgStatusClient
from pgstatus.client.request import Fallback
from pgstatus.psycopg.compat import Self
from pgstatus.psycopg.connection_async import AsyncConnection
from pgstatus.psycopg.hosts_async import AsyncHost, AsyncHosts, C
from pgstatus.routing.following import MASTER, VALID, Following, Question
from pgstatus.routing.reads_async import choose


class AsyncPool(Generic[C]):
    """Connections to the master, or to the replicas within certain limits. Made by `AsyncPools`."""

    def __init__(
        self,
        client: AsyncPgStatusClient,
        question: Question,
        hosts: AsyncHosts[C],
        following: Following,
        timeout: float,
    ) -> None:
        self._client = client
        self._question = question
        self._following = following
        self._hosts = hosts
        self._timeout = timeout

    @asynccontextmanager
    async def connection(
        self,
        *,
        after: Bookmark | None = None,
        wait_ms: int | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[C]:
        """As ``AsyncConnectionPool.connection``: commits at the end of the block, or rolls back.

        after: everything that this bookmark covers is visible; on the master if no replica has it
            within ``wait_ms`` (by default as configured in pg-status).
        timeout: how long to wait for a connection, in seconds; otherwise PoolTimeout.

        ClientError: there is no host to connect to, or pg-status cannot be queried.
        """
        async with AsyncExitStack() as stack:
            seconds = self._timeout if timeout is None else timeout
            yield await self._take(stack, after, wait_ms, seconds)

    async def _take(
        self, stack: AsyncExitStack, after: Bookmark | None, wait_ms: int | None, timeout: float
    ) -> C:
        self._following.add(self._question)
        until = time.monotonic() + timeout
        failure: psycopg.Error | None = None
        while True:
            host = self._hosts.of(await choose(self._client, self._question, after, wait_ms))
            chosen = time.monotonic()
            try:
                await host.open()
                connection = await stack.enter_async_context(host.pool.connection(until - chosen))
            except PoolClosed:
                failure = host.failure or failure
                continue  # the host was retired, and another one may be right now
            except PoolTimeout:
                failure = host.failure or failure
                size, max_size = host.size(), host.pool.max_size
                if host.failure is not None and not size:
                    # psycopg_pool waits longer after each failure, but the host may be back.
                    host.retire()
                exhausted = "the pool is exhausted: " if size >= max_size else ""
                raise PoolTimeout(
                    f"no connection to {host.name} within {timeout:g} s "
                    f"({exhausted}{size} of max_size={max_size} connections are open)"
                ) from failure
            if host.retired or connection.is_lost():
                host.retire()  # the other idle connections are probably lost too
            elif time.monotonic() < chosen + VALID or await self._is_right(host):
                return connection
            await stack.aclose()

    async def _is_right(self, host: AsyncHost[C]) -> bool:
        """Whether pg-status still reports this host; replicas that it does not are retired."""
        return self._question != MASTER or self._hosts.of(await self._client.master()) is host


class AsyncPools(Generic[C]):
    """The pools of the cluster that pg-status monitors: one ``AsyncConnectionPool`` per host.

    Use it as ``async with``, or call ``open()`` and ``close()``.

    conninfo, kwargs: as for ``AsyncConnectionPool``; host and port are those that pg-status names.
    connection_class: a subclass of ``pgstatus.psycopg.AsyncConnection``.
    min_size, max_size: of the pool of each host. It is created when the host is first used.
    timeout: how long ``connection()`` waits, in seconds.
    options: further arguments of ``AsyncConnectionPool``.
    """

    def __init__(
        self,
        client: AsyncPgStatusClient,
        conninfo: AsyncConninfoParam = "",
        *,
        kwargs: AsyncKwargsParam | None = None,
        connection_class: type[C] | None = None,
        min_size: int = 0,
        max_size: int = 10,
        timeout: float = 30.0,
        **options: Any,
    ) -> None:
        def make_pool(name: str, connection_class: type[C]) -> AsyncConnectionPool[C]:
            return AsyncConnectionPool(
                conninfo,
                kwargs=kwargs,
                connection_class=connection_class,
                min_size=min_size,
                max_size=max_size,
                name=name,
                open=False,
                **options,
            )

        self.client = client
        self._timeout = timeout
        self._hosts = AsyncHosts(make_pool, connection_class or cast("type[C]", AsyncConnection))
        self._following = Following(client, self._hosts.retire)
        self._pools: dict[Question, AsyncPool[C]] = {}

    def master(self) -> AsyncPool[C]:
        """Connections to the current master; the same object for every call.

        NoHostError if there is no master, and SplitBrainError if there are several and pg-status is
        configured not to choose one.
        """
        return self._pool(MASTER)

    def replica(
        self,
        *,
        lag_ms: int | None = None,
        lag_bytes: int | None = None,
        fallback: Fallback | None = None,
    ) -> AsyncPool[C]:
        """Connections to the replicas within the limits, in turn; to the master if there is none.

        The same object for every call with the same arguments. ``fallback``: see the client.
        """
        return self._pool(Question("replica", lag_ms, lag_bytes, fallback))

    async def open(self) -> None:
        """Follow the changes that pg-status reports. Connections are made when they are needed."""
        self._hosts.is_open = True
        self._following.start()

    async def close(self) -> None:
        """Close all pools; connections in use close when they are returned."""
        self._following.stop()
        await self._hosts.close()

    def get_stats(self) -> dict[str, dict[str, int]]:
        """The statistics of psycopg_pool for each host in use, by ``host:port``."""
        return self._hosts.get_stats()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()

    def _pool(self, question: Question) -> AsyncPool[C]:
        pool = self._pools.get(question)
        if pool is None:
            pool = AsyncPool(self.client, question, self._hosts, self._following, self._timeout)
            pool = self._pools.setdefault(question, pool)
        return pool
