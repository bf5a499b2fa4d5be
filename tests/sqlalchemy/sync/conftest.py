"""The primary as a threaded application uses it, and its state as seen from outside."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from pgstatus.demo.cluster import Cluster
from pgstatus.sqlalchemy.sync import DBConnect
from tests.sqlalchemy.conftest import url_of

DRIVERS = ("psycopg", "psycopg2")


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def session_maker(engine: Engine) -> sessionmaker[Session]:
    return sessionmaker(engine, expire_on_commit=False)


class Database:
    def __init__(self, cluster: Cluster, driver: str) -> None:
        self.cluster = cluster
        self.driver = driver
        self.engines: list[Engine] = []
        self.connect = DBConnect(self.engine, session_maker, host=cluster.primary.address)

    def engine(self, host: str) -> Engine:
        url = url_of(self.driver, host, self.cluster.primary.port)
        engine = create_engine(url, connect_args={"application_name": "threads"}, pool_size=4)
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
            " WHERE application_name = 'threads' AND state <> 'idle'"
        )
        return int(count)


@pytest.fixture
def database(cluster: Cluster, driver: str) -> Iterator[Database]:
    """The test fails if it leaves a connection checked out or a transaction open."""
    cluster.primary.sql("TRUNCATE note")
    database = Database(cluster, driver)
    yield database
    assert database.in_use() == 0, "a connection has leaked"
    assert database.in_transaction() == 0, "a transaction was left open"
    database.connect.close()
    for engine in database.engines:
        engine.dispose()
