"""Every way to write is noted, or the client is pinned, and the question never costs the write.

The replicas' replay is paused, so a read that does not go to the master does not see the row.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, LiteralString

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session
from sqlmodel.ext.asyncio.session import AsyncSession as SQLModelSession

from pgstatus.bookmarks.position import REQUIRED
from pgstatus.client import AsyncPgStatusClient
from pgstatus.demo.cluster import PASSWORD, Cluster
from pgstatus.sqlalchemy import (
    PgStatusCluster,
    ReadYourWritesMiddleware,
    commit_db_session,
    db_session,
    rollback_db_session,
    use_master,
)
from pgstatus.sqlalchemy.fastapi_utils import add_fastapi_http_db_session_middleware
from tests.conftest import ClusterFactory, DaemonFactory
from tests.sqlalchemy.conftest import INSERT, until, url_of
from tests.sqlalchemy.test_read_your_writes import COUNT, Held
from tests.support.daemon import Daemon

pytestmark = pytest.mark.anyio

Way = Callable[["Service", str], Awaitable[None]]


class Service:
    """One route that writes in some way, one that reads from a replica."""

    def __init__(self, cluster: Cluster, url: str, driver: str) -> None:
        self.port = cluster.primary.port
        self.driver = driver
        self.user_name = "postgres"
        self.maker_options: dict[str, Any] = {}
        self.way: Way = plain
        self.databases = PgStatusCluster(
            AsyncPgStatusClient(url, deadline=10.0), self.engine, self.maker
        )
        self.master = self.databases.master()
        self.replica = self.databases.replica()
        self.app = FastAPI()
        add_fastapi_http_db_session_middleware(self.app)
        self.app.add_middleware(ReadYourWritesMiddleware, secret="the test's")
        self.app.post("/write")(self.write)
        self.app.get("/read")(self.read)

    def engine(self, host: str, port: int) -> AsyncEngine:
        url = url_of(self.driver, host, port).replace("postgres:", f"{self.user_name}:", 1)
        return create_async_engine(url)

    def maker(self, engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
        options = {"expire_on_commit": False, **self.maker_options}
        return async_sessionmaker(engine, **options)

    async def write(self, body: str) -> dict[str, str]:
        await self.way(self, body)
        return {}

    async def read(self, body: str) -> dict[str, Any]:
        return {"rows": await self.count(body), "host": self.replica.host}

    async def count(self, body: str) -> int:
        session = await db_session(self.replica)
        return int(await session.scalar(COUNT, {"body": body}))

    def user(self, *, raising: bool = True) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=raising)
        return httpx.AsyncClient(transport=transport, base_url="https://service")


@pytest.fixture
async def service(cluster: Cluster, daemon: Daemon, driver: str) -> AsyncIterator[Service]:
    cluster.primary.sql("TRUNCATE note")
    service = Service(cluster, daemon.url, driver)
    yield service
    await service.databases.close()


async def plain(service: Service, body: str) -> None:
    await (await db_session(service.master)).execute(INSERT, {"body": body})


async def copy(service: Service, body: str) -> None:
    """COPY through the driver's own connection, which asyncpg commits by itself."""
    session = await db_session(service.master)
    raw = await (await session.connection()).get_raw_connection()
    connection: Any = raw.driver_connection
    if service.driver == "asyncpg":
        await connection.copy_records_to_table("note", records=[(body,)], columns=["body"])
    else:
        async with connection.cursor().copy("COPY note (body) FROM STDIN") as stream:
            await stream.write_row((body,))


async def copy_and_fail(service: Service, body: str) -> None:
    await copy(service, body)
    if service.driver == "psycopg":
        await commit_db_session(service.master)
    raise HTTPException(409)


async def engine_begin(service: Service, body: str) -> None:
    session = await db_session(service.master)
    bind = session.bind
    assert isinstance(bind, AsyncEngine)
    async with bind.begin() as connection:
        await connection.execute(INSERT, {"body": body})


async def kept_connection(service: Service, body: str) -> None:
    """The connection is still checked out, without a transaction, when the response is sent."""
    session = await db_session(service.master)
    assert isinstance(session.bind, AsyncEngine)
    connection = await session.bind.connect()
    await connection.execute(INSERT, {"body": body})
    await connection.commit()
    kept.append(connection)


kept: list[Any] = []


async def early_then_status(service: Service, body: str) -> None:
    await plain(service, body)
    await commit_db_session(service.master)
    raise HTTPException(409)


async def early_then_exception(service: Service, body: str) -> None:
    await plain(service, body)
    await commit_db_session(service.master)
    raise LookupError("not handled by the application")


async def sync_session_class(service: Service, body: str) -> None:
    class Mine(Session):
        pass

    maker = await service.master.session_maker()
    async with maker(sync_session_class=Mine) as session:
        await session.execute(INSERT, {"body": body})
        await session.commit()


async def read_before(service: Service, body: str) -> None:
    """The replica's session has read, and has a transaction open, when the row is written."""
    assert await service.count(body) == 0
    await plain(service, body)
    await commit_db_session(service.master)
    assert await service.count(body) == 1
    await plain(service, body)
    await commit_db_session(service.master)
    assert await service.count(body) == 2
    await (await db_session(service.master)).execute(text("DELETE FROM note WHERE id = lastval()"))


async def read_before_and_ended(service: Service, body: str) -> None:
    assert await service.count(body) == 0
    session = await db_session(service.replica)
    await rollback_db_session(service.replica)
    await plain(service, body)
    await commit_db_session(service.master)
    assert await db_session(service.replica) is session, "an idle session moves, with its objects"
    assert await service.count(body) == 1


WAYS = [
    plain,
    copy,
    copy_and_fail,
    engine_begin,
    kept_connection,
    early_then_status,
    early_then_exception,
    sync_session_class,
    read_before,
    read_before_and_ended,
]


async def written_and_read(cluster: Cluster, service: Service, way: Way) -> None:
    """What one client writes in this way it reads, although no replica has it."""
    service.way = way
    async with service.user(raising=False) as user:
        with Held(cluster, cluster.replicas):
            await user.post("/write", params={"body": "row"})
            answer = (await user.get("/read", params={"body": "row"})).json()
            assert answer == {"rows": 1, "host": cluster.primary.address}
    for connection in kept:
        await connection.close()
    kept.clear()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_what_was_written_is_read(cluster: Cluster, service: Service, way: Way) -> None:
    await written_and_read(cluster, service, way)


async def test_sqlmodel(cluster: Cluster, service: Service) -> None:
    service.maker_options = {"class_": SQLModelSession}

    async def way(service: Service, body: str) -> None:
        session = await db_session(service.master)
        assert isinstance(session, SQLModelSession)
        await session.exec(INSERT.bindparams(body=body))  # type: ignore[call-overload]

    await written_and_read(cluster, service, way)


async def test_two_phase_commit(make_cluster: ClusterFactory, make_daemon: DaemonFactory) -> None:
    """With psycopg; SQLAlchemy has none for asyncpg."""
    cluster = make_cluster(replicas=1)
    for server in (*cluster.replicas, cluster.primary):
        server.sql("ALTER SYSTEM SET max_prepared_transactions = 5")
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
    cluster.primary.sql("CREATE TABLE note (id bigserial PRIMARY KEY, body text NOT NULL)")
    service = Service(cluster, make_daemon(cluster).url, "psycopg")
    service.maker_options = {"twophase": True}

    async def prepared(service: Service, body: str) -> None:
        await plain(service, body)
        session = await db_session(service.master)
        await session.run_sync(lambda session: session.prepare())

    for way in (plain, prepared):
        cluster.primary.sql("TRUNCATE note")
        await written_and_read(cluster, service, way)
    await service.databases.close()


async def test_a_replica_connect_that_uses_the_master(
    cluster: Cluster, make_daemon: DaemonFactory, driver: str
) -> None:
    cluster.primary.sql("TRUNCATE note")
    alone = make_daemon(cluster, hosts=cluster.primary.address)
    service = Service(cluster, alone.url, driver)

    async def way(service: Service, body: str) -> None:
        await (await db_session(service.replica)).execute(INSERT, {"body": body})

    service.way = way
    async with service.user() as user:
        await user.post("/write", params={"body": "row"})
        assert len(user.cookies) == 1
    await service.databases.close()


@pytest.fixture
def limited(cluster: Cluster, service: Service) -> Iterator[str]:
    """A role that may not execute the functions of the bookmark."""
    primary = cluster.primary
    functions = (
        "txid_current_if_assigned()",
        "pg_current_xact_id_if_assigned()",
        "pg_current_wal_insert_lsn()",
    )
    primary.sql(f"CREATE ROLE limited LOGIN PASSWORD '{PASSWORD}'")
    primary.sql("GRANT ALL ON note, note_id_seq TO limited")
    service.user_name = "limited"
    yield "limited"
    for function in functions:
        primary.sql(f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC")
    primary.sql("DROP OWNED BY limited")
    primary.sql("DROP ROLE limited")


@pytest.mark.parametrize("function", ["txid_current_if_assigned()", "pg_current_wal_insert_lsn()"])
async def test_without_execute_the_write_is_kept_and_the_client_pinned(
    cluster: Cluster,
    service: Service,
    limited: str,
    function: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster.primary.sql(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
    with caplog.at_level(logging.WARNING, "pgstatus.sqlalchemy"):
        await written_and_read(cluster, service, plain)
        async with service.user() as user:
            for n in range(3):
                await user.post("/write", params={"body": f"{n}"})
    [record] = caplog.records
    assert "position of a write" in record.message
    assert "permission denied" in record.message
    assert f"The role needs EXECUTE on {REQUIRED}." in record.message
    assert cluster.primary.sql("SELECT count(*) FROM note") == [(4,)]


async def test_a_lost_connection_is_not_a_missing_privilege(
    cluster: Cluster, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async def lost(service: Service, body: str) -> None:
        await plain(service, body)
        pid = await (await db_session(service.master)).scalar(text("SELECT pg_backend_pid()"))
        cluster.primary.sql("SELECT pg_terminate_backend(%s)", pid)
        activity: LiteralString = "SELECT FROM pg_stat_activity WHERE pid = %s"
        await until(lambda: not cluster.primary.sql(activity, pid))

    service.way = lost
    with caplog.at_level(logging.WARNING, "pgstatus.sqlalchemy"):
        async with service.user(raising=False) as user:
            assert (await user.post("/write", params={"body": "row"})).status_code == 500
    [message] = [each.message for each in caplog.records if "position of a" in each.message]
    assert "privilege" not in message
    assert "EXECUTE" not in message


async def test_postgresql_12_has_no_newer_function(cluster: Cluster, service: Service) -> None:
    """txid_current_if_assigned() is used, which every supported version has."""
    rename = "ALTER FUNCTION pg_catalog.{} RENAME TO {}"
    primary = cluster.primary
    old, new = "pg_current_xact_id_if_assigned", "hidden_xact_id_if_assigned"
    primary.sql(rename.format(f"{old}()", new))
    try:
        await written_and_read(cluster, service, plain)
    finally:
        primary.sql(rename.format(f"{new}()", old))


async def test_a_transaction_with_a_failed_statement_is_no_success(
    cluster: Cluster, service: Service
) -> None:
    """PostgreSQL would answer its COMMIT with ROLLBACK, and the driver would not notice."""

    async def way(service: Service, body: str) -> None:
        session = await db_session(service.master)
        await session.execute(INSERT, {"body": body})
        with contextlib.suppress(IntegrityError):
            await session.execute(INSERT, {"body": None})

    service.way = way
    async with service.user(raising=False) as user:
        assert (await user.post("/write", params={"body": "row"})).status_code == 500
    assert cluster.primary.sql("SELECT count(*) FROM note") == [(0,)]


async def test_a_statement_may_fail_in_a_savepoint(cluster: Cluster, service: Service) -> None:
    async def way(service: Service, body: str) -> None:
        session = await db_session(service.master)
        await session.execute(INSERT, {"body": body})
        with pytest.raises(DBAPIError):
            async with session.begin_nested():
                await session.execute(INSERT, {"body": None})

    await written_and_read(cluster, service, way)


async def test_use_master_for_the_rest_of_a_request(cluster: Cluster, service: Service) -> None:
    async def way(service: Service, body: str) -> None:
        hosts = []
        await service.count(body)
        hosts.append(service.replica.host)
        use_master()
        await service.count(body)
        hosts.append(service.replica.host)
        first, second = hosts
        assert first != cluster.primary.address
        assert second == cluster.primary.address

    service.way = way
    async with service.user() as user:
        assert (await user.post("/write", params={"body": "row"})).status_code == 200
        answer = (await user.get("/read", params={"body": "row"})).json()
        assert answer["host"] != cluster.primary.address, "only for that request"


async def test_reads_join_the_open_transaction_of_the_master(
    cluster: Cluster, service: Service
) -> None:
    replica = service.databases.replica(joins_master=True)
    assert replica is service.databases.replica(joins_master=True)

    async def way(service: Service, body: str) -> None:
        async def count() -> int:
            session = await db_session(replica)
            return int((await session.execute(COUNT, {"body": body})).scalar_one())

        assert await count() == 0
        assert replica.host != cluster.primary.address
        await plain(service, body)
        assert await count() == 1, "not committed yet"
        assert await db_session(replica) is await db_session(service.master)
        await commit_db_session(service.master)
        assert await count() == 1

    await written_and_read(cluster, service, way)
