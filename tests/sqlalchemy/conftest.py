"""One real cluster for the whole package, and an empty database for each test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from pgstatus.demo.cluster import PASSWORD, Cluster
from pgstatus.demo.network import Network, free_port
from pgstatus.sqlalchemy import DBConnect
from tests.support.daemon import Daemon

DRIVERS = ("asyncpg", "psycopg")


@pytest.fixture(scope="session")
def cluster(session_clusters: Any) -> Cluster:
    """A cluster to write to: one table, emptied before each test that has a ``database``."""
    cluster: Cluster = session_clusters.make()
    cluster.primary.sql("CREATE TABLE note (id bigserial PRIMARY KEY, body text NOT NULL)")
    return cluster


@pytest.fixture(scope="session")
def daemon(
    cluster: Cluster, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """A pg-status that monitors it."""
    address = network.address(1)
    variables = {
        "hosts": ",".join(server.address for server in cluster.servers),
        "pg_port": cluster.primary.port,
        "sleep_ms": 100,
    }
    log = tmp_path_factory.mktemp("daemon") / "log"
    with Daemon(log, variables, address=address, port=free_port([address], 8100)) as daemon:
        yield daemon


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def url_of(driver: str, host: str, port: int) -> str:
    return f"postgresql+{driver}://postgres:{PASSWORD}@{host}:{port}/postgres"


def session_maker(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine, expire_on_commit=False)


async def until(holds: Callable[[], bool]) -> None:
    """Let the other tasks run until ``holds`` returns true; TimeoutError after 20 s."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.005)


class Database:
    """The primary as an application uses it, and its state as seen from outside."""

    def __init__(self, cluster: Cluster, driver: str) -> None:
        self.cluster = cluster
        self.driver = driver
        self.engines: list[AsyncEngine] = []
        self.connect = self.new_connect()

    def new_connect(self) -> DBConnect:
        return DBConnect(self.engine, session_maker, host=self.cluster.primary.address)

    def engine(self, host: str) -> AsyncEngine:
        # Each driver has its own way to set application_name.
        arguments: dict[str, object] = {"application_name": "under-test"}
        if self.driver == "asyncpg":
            arguments = {"server_settings": arguments}
        url = url_of(self.driver, host, self.cluster.primary.port)
        engine = create_async_engine(url, connect_args=arguments, pool_size=4)
        self.engines.append(engine)
        return engine

    def bodies(self) -> list[str]:
        """The rows that are committed."""
        return [body for (body,) in self.cluster.primary.sql("SELECT body FROM note ORDER BY id")]

    def in_use(self) -> int:
        """Connections that are checked out of their pools."""
        return sum(engine.pool.checkedout() for engine in self.engines)  # type: ignore[attr-defined]

    def in_transaction(self) -> int:
        """Open transactions of the application, according to the server."""
        [(count,)] = self.cluster.primary.sql(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'under-test' AND state <> 'idle'"
        )
        return int(count)


@pytest.fixture
async def database(cluster: Cluster, driver: str) -> AsyncIterator[Database]:
    """The test fails if it leaves a connection checked out or a transaction open."""
    cluster.primary.sql("TRUNCATE note")
    database = Database(cluster, driver)
    yield database
    assert database.in_use() == 0, "a connection has leaked"
    assert database.in_transaction() == 0, "a transaction was left open"
    await database.connect.close()
    for engine in database.engines:
        await engine.dispose()


INSERT = text("INSERT INTO note (body) VALUES (:body)")
