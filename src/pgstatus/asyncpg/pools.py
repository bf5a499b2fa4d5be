"""Pools of the master and of the replicas."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import asyncpg

from pgstatus.asyncpg.connection import Connection
from pgstatus.asyncpg.hosts import Host, Hosts
from pgstatus.bookmarks.bookmark import Bookmark
from pgstatus.client import AsyncPgStatusClient
from pgstatus.client.compat import timeout as time_limit
from pgstatus.client.request import Fallback
from pgstatus.routing.following import MASTER, VALID, Following, Question
from pgstatus.routing.reads_async import choose


class Pool:
    """Connections to the master, or to the replicas within certain limits. Made by `Pools`.

    The methods ``execute``, ``fetch`` and so on are those of ``asyncpg.Pool``.
    """

    def __init__(
        self,
        client: AsyncPgStatusClient,
        question: Question,
        hosts: Hosts,
        following: Following,
    ) -> None:
        self._client = client
        self._question = question
        self._following = following
        self._hosts = hosts

    @asynccontextmanager
    async def acquire(
        self,
        *,
        after: Bookmark | None = None,
        wait_ms: int | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[Any]:
        """As ``asyncpg.Pool.acquire``, for ``async with``: a `Connection`.

        after: everything that this bookmark covers is visible; on the master if no replica has it
            within ``wait_ms`` (by default as configured in pg-status).
        timeout: how long to wait for a connection, in seconds; otherwise TimeoutError.

        ClientError: there is no host to connect to, or pg-status cannot be queried.
        """
        async with time_limit(timeout):
            host, connection = await self._take(after, wait_ms)
        try:
            yield connection
        except asyncpg.PostgresError as error:
            host.failed(error)
            raise
        finally:
            await host.release(connection)

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        async with self.acquire() as connection:
            return str(await connection.execute(query, *args, timeout=timeout))

    async def executemany(
        self, command: str, args: Iterable[Any], *, timeout: float | None = None
    ) -> None:
        async with self.acquire() as connection:
            await connection.executemany(command, args, timeout=timeout)

    async def fetch(
        self,
        query: str,
        *args: Any,
        after: Bookmark | None = None,
        timeout: float | None = None,
        record_class: Any = None,
    ) -> list[Any]:
        async with self.acquire(after=after) as connection:
            rows: list[Any] = await connection.fetch(
                query, *args, timeout=timeout, record_class=record_class
            )
            return rows

    async def fetchrow(
        self,
        query: str,
        *args: Any,
        after: Bookmark | None = None,
        timeout: float | None = None,
        record_class: Any = None,
    ) -> Any:
        async with self.acquire(after=after) as connection:
            return await connection.fetchrow(
                query, *args, timeout=timeout, record_class=record_class
            )

    async def fetchval(
        self,
        query: str,
        *args: Any,
        after: Bookmark | None = None,
        column: int = 0,
        timeout: float | None = None,
    ) -> Any:
        async with self.acquire(after=after) as connection:
            return await connection.fetchval(query, *args, column=column, timeout=timeout)

    async def _take(self, after: Bookmark | None, wait_ms: int | None) -> tuple[Host, Any]:
        self._following.add(self._question)
        while True:
            host = self._hosts.of(await choose(self._client, self._question, after, wait_ms))
            chosen = time.monotonic()
            connection = await host.acquire()
            if connection is None:
                continue
            is_right = False
            try:
                is_right = time.monotonic() < chosen + VALID or await self._is_right(host)
            finally:
                if not is_right:
                    await host.release(connection)
            if is_right:
                return host, connection

    async def _is_right(self, host: Host) -> bool:
        """Whether pg-status still reports this host; replicas that it does not are retired."""
        return self._question != MASTER or self._hosts.of(await self._client.master()) is host


class Pools:
    """The pools of the cluster that pg-status monitors: one ``asyncpg.Pool`` per host.

    Use it as ``async with``, or call ``open()`` and ``close()``.

    dsn, options: as for ``asyncpg.create_pool``; host and port are those that pg-status names.
    connection_class: a subclass of ``pgstatus.asyncpg.Connection``.
    min_size, max_size: of the pool of each host. It is created when the host is first used.
    """

    def __init__(
        self,
        client: AsyncPgStatusClient,
        dsn: str | None = None,
        *,
        connection_class: type[Connection] = Connection,
        min_size: int = 0,
        max_size: int = 10,
        **options: Any,
    ) -> None:
        connect = options.pop("connect", None) or asyncpg.connect

        def make_pool(**host: Any) -> Any:
            return asyncpg.create_pool(
                dsn,
                connection_class=connection_class,
                min_size=min_size,
                max_size=max_size,
                **{**options, **host},
            )

        self.client = client
        self._hosts = Hosts(make_pool, connect)
        self._following = Following(client, self._hosts.retire)
        self._pools: dict[Question, Pool] = {}

    def master(self) -> Pool:
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
    ) -> Pool:
        """Connections to the replicas within the limits, in turn; to the master if there is none.

        The same object for every call with the same arguments. ``fallback``: see the client.
        """
        return self._pool(Question("replica", lag_ms, lag_bytes, fallback))

    async def open(self) -> None:
        """Follow the changes that pg-status reports. Connections are made when they are needed."""
        self._hosts.is_open = True
        self._following.start()

    async def close(self) -> None:
        """Close all pools, and wait until the connections in use are returned."""
        self._following.stop()
        await self._hosts.close()

    async def __aenter__(self) -> "Pools":
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()

    def _pool(self, question: Question) -> Pool:
        pool = self._pools.get(question)
        if pool is None:
            pool = Pool(self.client, question, self._hosts, self._following)
            self._pools[question] = pool
        return pool
