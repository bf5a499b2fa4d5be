"""A context that outlives a failover, and the documented retry recipe.

Two failovers: a crash, and a switchover after which the old primary continues as a standby on the
same address, where it accepts sessions and rejects writes with SQLSTATE 25006.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from examples.fastapi.retry import retried
from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pgstatus.client import AsyncPgStatusClient, ClientError
from pgstatus.demo.cluster import Cluster
from pgstatus.sqlalchemy import (
    PgStatusCluster,
    atomic_db_session,
    commit_db_session,
    db_session,
    rollback_db_session,
    run_in_new_ctx,
)
from pgstatus.sqlalchemy.fastapi_utils import add_fastapi_http_db_session_middleware
from tests.conftest import ClusterFactory, DaemonFactory
from tests.sqlalchemy.conftest import DRIVERS, INSERT, session_maker, until, url_of
from tests.support.daemon import Daemon

pytestmark = pytest.mark.anyio

Failover = Callable[[Cluster], None]


def crash(cluster: Cluster) -> None:
    cluster.fail_over()


def switchover(cluster: Cluster) -> None:
    """The old primary is stopped cleanly and continues as a standby of the new one."""
    old, new = cluster.primary, cluster.replicas[0]
    old.stop()
    cluster.promote(new)
    (old.data / "standby.signal").touch()
    with (old.data / "postgresql.auto.conf").open("a") as file:
        conninfo = new.conninfo.replace("'", "''")
        file.write(f"\nprimary_conninfo = '{conninfo}'\n")
    old.start()
    for replica in cluster.replicas:
        if replica is not old:
            replica.follow(new)


@pytest.fixture(params=[crash, switchover], ids=lambda failover: failover.__name__)
def failover(request: pytest.FixtureRequest) -> Failover:
    chosen: Failover = request.param
    return chosen


class Service:
    def __init__(self, daemon: Daemon, driver: str) -> None:
        self.driver = driver
        self.engines: list[AsyncEngine] = []
        self.cluster = PgStatusCluster(
            AsyncPgStatusClient(daemon.url, deadline=10.0), self.engine, session_maker
        )
        self.master = self.cluster.master()
        self.replica = self.cluster.replica()

    def engine(self, host: str, port: int) -> AsyncEngine:
        self.engines.append(create_async_engine(url_of(self.driver, host, port)))
        return self.engines[-1]


@pytest.fixture
def failing(make_cluster: ClusterFactory) -> Cluster:
    cluster = make_cluster(replicas=2)
    cluster.primary.sql("CREATE TABLE note (id bigserial PRIMARY KEY, body text NOT NULL)")
    return cluster


@pytest.fixture
async def services(
    failing: Cluster, make_daemon: DaemonFactory
) -> AsyncIterator[dict[str, Service]]:
    daemon = make_daemon(failing, sleep_ms=100)
    services = {driver: Service(daemon, driver) for driver in DRIVERS}
    yield services
    for service in services.values():
        await service.cluster.close()


def bodies(cluster: Cluster) -> list[str]:
    return [body for (body,) in cluster.primary.sql("SELECT body FROM note ORDER BY body")]


async def commit_each(service: Service, body: str) -> None:
    session = await db_session(service.master)
    await session.execute(INSERT, {"body": body})
    await commit_db_session(service.master)


async def roll_back_errors(service: Service, body: str) -> None:
    try:
        await commit_each(service, body)
    except Exception:
        await rollback_db_session(service.master)
        raise


async def atomic(service: Service, body: str) -> None:
    async with atomic_db_session(service.master) as session:
        await session.execute(INSERT, {"body": body})


@pytest.mark.parametrize("write", [commit_each, roll_back_errors, atomic])
async def test_a_loop_recovers(
    failing: Cluster,
    services: dict[str, Service],
    failover: Failover,
    write: Callable[[Service, str], Awaitable[None]],
) -> None:
    """One context for the whole loop; after the failover, at most the writes until it is known."""
    over = asyncio.Event()
    written: dict[str, list[str]] = {driver: [] for driver in services}
    errors: dict[str, list[Exception]] = {driver: [] for driver in services}
    after: dict[str, int] = dict.fromkeys(services, 0)

    async def loop(service: Service) -> None:
        number = 0
        while after[service.driver] < 5:
            number += 1
            body = f"{service.driver} {number:05}"
            known = over.is_set() and service.master.host == failing.primary.address
            try:
                await write(service, body)
            except (DBAPIError, ClientError, OSError) as error:
                assert not known, "an error although the new master is in use"
                errors[service.driver].append(error)
            else:
                written[service.driver].append(body)
                after[service.driver] += over.is_set()
            await asyncio.sleep(0.02)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for service in services.values():
            group.create_task(run_in_new_ctx(loop, service))
        await until(lambda: all(len(each) >= 3 for each in written.values()))
        await asyncio.to_thread(failover, failing)
        over.set()
    found = bodies(failing)
    for driver, expected in written.items():
        assert [body for body in found if body.startswith(driver)] == expected
        states = [
            getattr(error.orig, "sqlstate", None)
            for error in errors[driver]
            if isinstance(error, DBAPIError)
        ]
        assert states.count("25006") <= 20


async def test_an_idle_session_keeps_its_objects(
    failing: Cluster, services: dict[str, Service], failover: Failover
) -> None:
    """The session moves; a new one would leave the objects of the old one detached."""

    async def through(service: Service) -> None:
        await commit_each(service, f"{service.driver} before")
        session = await db_session(service.master)
        ready.append(session)
        await over.wait()
        await daemon_knows.wait()
        assert await db_session(service.master) is session
        await commit_each(service, f"{service.driver} after")
        assert service.master.host == failing.primary.address

    ready: list[object] = []
    over, daemon_knows = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for service in services.values():
            group.create_task(run_in_new_ctx(through, service))
        await until(lambda: len(ready) == len(services))
        await asyncio.to_thread(failover, failing)
        over.set()
        client = services["asyncpg"].cluster.client
        while True:
            try:
                if (await client.master()).host == failing.primary.address:
                    break
            except ClientError:
                pass
            await asyncio.sleep(0.05)
        daemon_knows.set()
    assert bodies(failing) == sorted(
        f"{d} {when}" for d in services for when in ("before", "after")
    )


async def test_a_request_whose_transaction_was_lost_is_no_success(
    failing: Cluster, services: dict[str, Service]
) -> None:
    """Even if the handler ignores the error and writes again, on the new connection."""

    def application(service: Service) -> FastAPI:
        app = FastAPI()
        add_fastapi_http_db_session_middleware(app)

        @app.post("/write")
        async def write() -> None:
            session = await db_session(service.master)
            await session.execute(INSERT, {"body": "lost"})
            failing.primary.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE state = 'idle in transaction'"
            )
            with pytest.raises(DBAPIError):
                await session.execute(INSERT, {"body": "lost too"})
            session = await db_session(service.master)
            await session.execute(INSERT, {"body": "second"})

        return app

    for service in services.values():
        transport = httpx.ASGITransport(application(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as user:
            with pytest.raises(PendingRollbackError):
                await user.post("/write")
    assert bodies(failing) == []


async def test_the_retry_recipe(
    failing: Cluster, services: dict[str, Service], failover: Failover
) -> None:
    """Every request is answered with 200 and has written exactly one row, or its error is 503."""
    statuses: dict[str, dict[str, int]] = {driver: {} for driver in services}
    over = asyncio.Event()

    def application(service: Service) -> FastAPI:
        app = FastAPI()
        add_fastapi_http_db_session_middleware(app)

        @app.post("/write")
        async def write(body: str) -> None:
            await retried(lambda: atomic(service, body), seconds=20)

        return app

    async def user(service: Service) -> None:
        transport = httpx.ASGITransport(application(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            number, after = 0, 0
            while after < 5:
                number += 1
                body = f"{service.driver} {number:05}"
                answer = await client.post("/write", params={"body": body}, timeout=30)
                statuses[service.driver][body] = answer.status_code
                after += over.is_set()
                await asyncio.sleep(0.01)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for service in services.values():
            group.create_task(user(service))
        await until(lambda: all(len(each) >= 3 for each in statuses.values()))
        await asyncio.to_thread(failover, failing)
        over.set()
    found = bodies(failing)
    for driver, each in statuses.items():
        assert set(each.values()) == {200}
        # A commit whose response was lost with the connection may have taken effect: once more.
        assert set(each) <= set(found)
        assert len([body for body in found if body.startswith(driver)]) <= len(each) + 1
