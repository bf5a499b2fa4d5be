"""One interface for the pools of all drivers, for use in a synchronous test.

The pools for asyncio run in an event loop of their own, which runs all the time.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Any

import pgstatus.asyncpg
import pgstatus.psycopg
from pgstatus.bookmarks.bookmark import Bookmark
from pgstatus.client import AsyncPgStatusClient, PgStatusClient
from pgstatus.demo.cluster import PASSWORD

NAME = "under-test"
"""The ``application_name`` of the connections."""
CONNINFO = f"user=postgres password={PASSWORD} dbname=postgres application_name={NAME}"


class Connection(ABC):
    @abstractmethod
    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement; its rows."""

    @abstractmethod
    def commit(self) -> None: ...

    @abstractmethod
    def bookmark(self) -> Bookmark: ...

    def address(self) -> str:
        [(address,)] = self.query("SELECT host(inet_server_addr())")
        return str(address)

    def pid(self) -> int:
        [(pid,)] = self.query("SELECT pg_backend_pid()")
        return int(pid)

    def write(self, value: int) -> Bookmark:
        self.query(f"INSERT INTO note (value) VALUES ({value})")
        self.commit()
        return self.bookmark()

    def has(self, value: int) -> bool:
        return bool(self.query(f"SELECT FROM note WHERE value = {value}"))


class Application(ABC):
    """An application with its pools. ``options`` are those of the pools."""

    @abstractmethod
    def open(self, url: str, **options: Any) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def end(self) -> None:
        """Close them, and end the event loop."""
        self.close()

    @abstractmethod
    @contextmanager
    def master(self, **options: Any) -> Iterator[Connection]:
        """A connection to the master."""

    @abstractmethod
    @contextmanager
    def replica(self, limits: dict[str, Any] | None = None, **options: Any) -> Iterator[Connection]:
        """A connection to a replica within the limits."""


class _Threads(Connection):
    def __init__(self, connection: pgstatus.psycopg.Connection) -> None:
        self.driver = connection

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        cursor = self.driver.execute(sql.encode())
        return cursor.fetchall() if cursor.description is not None else []

    def commit(self) -> None:
        self.driver.commit()

    def bookmark(self) -> Bookmark:
        return self.driver.bookmark()


class Threads(Application):
    """psycopg, threads."""

    def open(self, url: str, **options: Any) -> None:
        self._client = PgStatusClient(url, deadline=10.0)
        self._pools = pgstatus.psycopg.Pools(self._client, CONNINFO, **options)
        self._pools.open()

    def close(self) -> None:
        self._pools.close()
        self._client.close()

    @contextmanager
    def master(self, **options: Any) -> Iterator[Connection]:
        with self._pools.master().connection(**options) as connection:
            yield _Threads(connection)

    @contextmanager
    def replica(self, limits: dict[str, Any] | None = None, **options: Any) -> Iterator[Connection]:
        with self._pools.replica(**(limits or {})).connection(**options) as connection:
            yield _Threads(connection)


Run = Callable[[Coroutine[Any, Any, Any]], Any]


class _Tasks(Connection):
    def __init__(self, connection: Any, run: Run) -> None:
        self.driver = connection
        self._run = run

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        async def query() -> list[tuple[Any, ...]]:
            cursor = await self.driver.execute(sql.encode())
            return await cursor.fetchall() if cursor.description is not None else []

        rows: list[tuple[Any, ...]] = self._run(query())
        return rows

    def commit(self) -> None:
        self._run(self.driver.commit())

    def bookmark(self) -> Bookmark:
        mark: Bookmark = self._run(self.driver.bookmark())
        return mark


class Tasks(Application):
    """psycopg, asyncio."""

    def open(self, url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._run(self._open(url, options))

    def close(self) -> None:
        self._run(self._close())

    def end(self) -> None:
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def master(self, **options: Any) -> Iterator[Connection]:
        with self._taken(self._pools.master(), options) as connection:
            yield self._wrap(connection)

    @contextmanager
    def replica(self, limits: dict[str, Any] | None = None, **options: Any) -> Iterator[Connection]:
        with self._taken(self._pools.replica(**(limits or {})), options) as connection:
            yield self._wrap(connection)

    async def _open(self, url: str, options: dict[str, Any]) -> None:
        self._client = AsyncPgStatusClient(url, deadline=10.0)
        self._pools = self._make(self._client, options)
        await self._pools.open()

    def _make(self, client: AsyncPgStatusClient, options: dict[str, Any]) -> Any:
        return pgstatus.psycopg.AsyncPools(client, CONNINFO, **options)

    async def _close(self) -> None:
        await self._pools.close()
        await self._client.close()

    def _wrap(self, connection: Any) -> Connection:
        return _Tasks(connection, self._run)

    def _take(self, pool: Any, options: dict[str, Any]) -> Any:
        return pool.connection(**options)

    @contextmanager
    def _taken(self, pool: Any, options: dict[str, Any]) -> Iterator[Any]:
        stack = AsyncExitStack()
        with ExitStack() as leave:
            leave.push(lambda *error: self._run(stack.__aexit__(*error)))
            yield self._run(stack.enter_async_context(self._take(pool, options)))

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)


class _Asyncpg(_Tasks):
    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._run(self.driver.fetch(sql))]

    def commit(self) -> None:
        """Each statement was committed by itself."""


class Asyncpg(Tasks):
    """asyncpg."""

    def _make(self, client: AsyncPgStatusClient, options: dict[str, Any]) -> Any:
        dsn = f"postgresql://postgres:{PASSWORD}@/postgres"
        return pgstatus.asyncpg.Pools(
            client, dsn, server_settings={"application_name": NAME}, **options
        )

    def _wrap(self, connection: Any) -> Connection:
        return _Asyncpg(connection, self._run)

    def _take(self, pool: Any, options: dict[str, Any]) -> Any:
        return pool.acquire(**options)


KINDS: dict[str, type[Application]] = {
    "psycopg": Tasks,
    "psycopg-threads": Threads,
    "asyncpg": Asyncpg,
}
