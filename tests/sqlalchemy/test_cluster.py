"""Sessions on a real cluster: the host that pg-status names, one pool per host, a failover."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from pgstatus.client import AsyncPgStatusClient, ClientError
from pgstatus.demo.cluster import Cluster
from pgstatus.sqlalchemy import (
    PgStatusCluster,
    cleanup,
    db_session,
    new_non_ctx_atomic_session,
    new_non_ctx_session,
    run_in_new_ctx,
)
from tests.conftest import ClusterFactory, DaemonFactory
from tests.sqlalchemy.conftest import INSERT, session_maker, until, url_of
from tests.support.daemon import Daemon

pytestmark = pytest.mark.anyio


class Service:
    """An application's databases, and the engines that were created for them."""

    def __init__(self, daemon: Daemon, driver: str, **client: Any) -> None:
        self.driver = driver
        self.engines: list[AsyncEngine] = []
        self.cluster = PgStatusCluster(
            AsyncPgStatusClient(daemon.url, **client), self.engine, session_maker
        )
        self.master = self.cluster.master()
        self.replica = self.cluster.replica()

    def engine(self, host: str, port: int) -> AsyncEngine:
        self.engines.append(create_async_engine(url_of(self.driver, host, port)))
        return self.engines[-1]

    def pool(self, host: str) -> Any:
        """The pool of the last engine for this host."""
        return next(e.pool for e in reversed(self.engines) if e.url.host == host)


@pytest.fixture
async def service(daemon: Daemon, driver: str) -> AsyncIterator[Service]:
    service = Service(daemon, driver, max_age=0.0)
    yield service
    await service.cluster.close()


WHERE = text("SELECT host(inet_server_addr()), pg_is_in_recovery(), pg_backend_pid()")


async def where(session: AsyncSession) -> tuple[str, bool, int]:
    host, in_recovery, pid = (await session.execute(WHERE)).one()
    return host, in_recovery, pid


async def test_each_session_is_on_the_right_host(service: Service, cluster: Cluster) -> None:
    async def both() -> None:
        master = await db_session(service.master)
        replica = await db_session(service.replica)
        assert (await where(master))[:2] == (cluster.primary.address, False)
        assert (await where(replica))[1] is True
        assert service.master.host == cluster.primary.address

    await run_in_new_ctx(both)


async def test_the_rotation_of_replicas_keeps_the_pools(service: Service, cluster: Cluster) -> None:
    seen: Counter[tuple[str, bool, int]] = Counter()
    for _ in range(20):
        async with new_non_ctx_session(service.replica) as session:
            seen[await where(session)] += 1
    # Two hosts in turn, always over the same connection. The turn starts again when answers come
    # from memory.
    assert len(seen) == 2
    assert min(seen.values()) >= 8
    assert {host for host, _, _ in seen} == {replica.address for replica in cluster.replicas}
    assert len(service.engines) == 2


async def test_master_and_replica_share_a_hosts_engine(service: Service, cluster: Cluster) -> None:
    for replica in cluster.replicas:
        replica.sql("SELECT pg_wal_replay_pause()")
    try:
        # No replica gets as far as this.
        cluster.primary.sql("SELECT pg_logical_emit_message(true, 'test', repeat('x', 5000000))")
        strict = service.cluster.replica(lag_bytes=1000)
        async with asyncio.timeout(10):
            while (await service.cluster.client.replica(lag_bytes=1000)).role == "replica":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        async with new_non_ctx_session(strict) as session:
            assert (await where(session))[0] == cluster.primary.address
        async with new_non_ctx_session(service.master) as session:
            assert (await where(session))[0] == cluster.primary.address
        assert len(service.engines) == 1
    finally:
        for replica in cluster.replicas:
            replica.sql("SELECT pg_wal_replay_resume()")
    await asyncio.to_thread(_replayed, cluster)


def _replayed(cluster: Cluster) -> None:
    for replica in cluster.replicas:
        replica.wait_for(lambda r=replica: r.lsn() >= cluster.primary.lsn(), "stays behind")  # type: ignore[misc]


async def test_the_host_is_not_changed_by_hand(service: Service) -> None:
    for change in (service.master.connect, service.replica.change_host):
        with pytest.raises(RuntimeError, match="follows pg-status"):
            await change("elsewhere")


async def test_pg_status_is_unavailable(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    daemon = make_daemon(cluster)
    service = Service(daemon, "asyncpg", max_age=0.0, stale_if_error=2.0)
    async with new_non_ctx_session(service.master) as session:
        await where(session)
    daemon.stop()
    async with new_non_ctx_session(service.master) as session:
        assert (await where(session))[0] == cluster.primary.address
    with pytest.raises(ClientError):
        async with asyncio.timeout(5):
            while True:
                await (await service.master.create_session()).close()
                await asyncio.sleep(0.02)
    await service.cluster.close()


async def driver_connection(session: AsyncSession) -> Any:
    """The driver's own connection of this session."""
    connection = await (await session.connection()).get_raw_connection()
    return connection.driver_connection


def is_closed(connection: Any) -> bool:
    """For both drivers."""
    return bool(connection.is_closed() if hasattr(connection, "is_closed") else connection.closed)


async def test_failover(make_cluster: ClusterFactory, make_daemon: DaemonFactory) -> None:
    cluster = make_cluster(replicas=2)
    cluster.primary.sql("CREATE TABLE note (id bigserial PRIMARY KEY, body text NOT NULL)")
    daemon = make_daemon(cluster, sleep_ms=100)
    first = cluster.primary.address

    async def write(service: Service, body: str) -> str:
        async with new_non_ctx_atomic_session(service.master) as session:
            await session.execute(INSERT, {"body": f"{service.driver} {body}"})
            return (await where(session))[0]

    async def through_the_failover(service: Service) -> None:
        # Two connections to the old master: one idle, one in the middle of a transaction.
        in_flight = await service.master.create_session()
        await in_flight.execute(INSERT, {"body": "lost"})
        connection = await driver_connection(in_flight)
        assert await write(service, "before") == first
        old = service.pool(first)
        assert (old.checkedin(), old.checkedout()) == (1, 1)
        ready.append(service)
        await until(lambda: cluster.primary.address != first)
        with pytest.raises(DBAPIError):
            await in_flight.execute(INSERT, {"body": "lost"})

        async with asyncio.timeout(20):
            while service.master.host == first:
                try:
                    await write(service, "after")
                except (DBAPIError, ClientError, OSError):
                    await asyncio.sleep(0.02)
        assert service.master.host == cluster.primary.address
        await in_flight.close()
        assert is_closed(connection)
        assert old.checkedin() + old.checkedout() <= 1  # an entry without a connection
        assert await write(service, "later") == cluster.primary.address

    ready: list[Service] = []
    services = [Service(daemon, driver, max_age=0.05) for driver in ("asyncpg", "psycopg")]
    async with asyncio.TaskGroup() as group:
        for service in services:
            group.create_task(through_the_failover(service))
        await until(lambda: len(ready) == 2)
        # Replication is asynchronous: a crash loses what no replica has received.
        written = cluster.primary.lsn()
        await until(lambda: all(replica.lsn() >= written for replica in cluster.replicas))
        await asyncio.to_thread(cluster.fail_over)
    for service in services:
        await service.cluster.close()
    rows = [body for (body,) in cluster.primary.sql("SELECT body FROM note")]
    assert sorted(rows) == [
        f"{driver} {body}"
        for driver in ("asyncpg", "psycopg")
        for body in ("after", "before", "later")
    ]


async def test_a_failover_without_a_request(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    """The pool of the former master goes, and the next session uses the new one."""
    cluster = make_cluster(replicas=1)
    daemon = make_daemon(cluster, sleep_ms=100)
    service = Service(daemon, "asyncpg", max_age=0.0)
    first = cluster.primary.address

    async def next_session() -> str:
        async with new_non_ctx_session(service.master) as session:
            return (await where(session))[0]

    async def requests() -> list[str]:
        metrics = await asyncio.to_thread(daemon.text, "/metrics")
        return re.findall(r'http_requests_total.*"/(?:master|hosts)".*', metrics)

    async with asyncio.timeout(15):
        before: list[str] = []
        while before != await requests():  # the notifications have begun
            before = await requests()
            assert await next_session() == first
        masters: list[str] = []
        service.cluster.client.on_change(
            lambda answer: masters.extend(h.host for h in answer.hosts)
        )
        await asyncio.to_thread(cluster.fail_over)
        second = cluster.primary.address
        await until(lambda: masters[-1:] == [second])
        assert first not in [host for host, _ in service.cluster.pools.addresses()]
        before = await requests()
        assert await next_session() == second
        assert await requests() == before
    await service.cluster.close()


async def test_a_host_that_leaves_loses_its_pool(
    cluster: Cluster, make_daemon: DaemonFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "CLOSE_SECONDS", 0.5)
    replica, _ = cluster.replicas
    # This pg-status monitors only one of the replicas, so it is the one named.
    hosts = f"{cluster.primary.address},{replica.address}"
    daemon = make_daemon(cluster, sleep_ms=50, max_fails=1, hosts=hosts)
    service = Service(daemon, "asyncpg", max_age=0.0)
    in_use = await service.replica.create_session()
    assert (await where(in_use))[0] == replica.address
    connection = await driver_connection(in_use)
    async with new_non_ctx_session(service.replica) as session:
        idle = await driver_connection(session)

    await asyncio.to_thread(replica.freeze)
    try:
        await until(lambda: not daemon.host(replica.address)["alive"])
        async with new_non_ctx_session(service.replica) as session:
            assert (await where(session))[0] == cluster.primary.address
        await until(lambda: is_closed(idle))
        # The session in use is not disturbed; its connection is closed when it ends.
        assert not is_closed(connection)
    finally:
        await asyncio.to_thread(replica.thaw)
    await where(in_use)
    await in_use.close()
    await until(lambda: is_closed(connection))
    await service.cluster.close()
