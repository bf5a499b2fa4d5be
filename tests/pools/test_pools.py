"""The pools of psycopg, for asyncio and for threads, and of asyncpg, on a running cluster."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psycopg
import pytest

from pgstatus.bookmarks import Bookmark
from pgstatus.demo.cluster import Cluster, Server
from tests.conftest import Daemons
from tests.pools.application import NAME, Application
from tests.pools.conftest import ApplicationFactory
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

numbers = iter(range(1_000_000))
LIMITS = {"lag_ms": 500}


@contextmanager
def paused(*replicas: Server) -> Iterator[None]:
    """The replicas receive, but do not replay."""
    for replica in replicas:
        replica.sql("SELECT pg_wal_replay_pause()")
    try:
        yield
    finally:
        for replica in replicas:
            replica.sql("SELECT pg_wal_replay_resume()")


def backends(server: Server) -> int:
    """The connections of the application."""
    [(count,)] = server.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", NAME
    )
    return int(count)


def test_hosts(application: Application, cluster: Cluster) -> None:
    """Reads are shared evenly by the replicas."""
    with application.master() as connection:
        assert connection.address() == cluster.primary.address
    hosts: Counter[str] = Counter()
    for _ in range(40):
        with application.replica() as connection:
            hosts[connection.address()] += 1
    assert set(hosts) == {replica.address for replica in cluster.replicas}
    assert min(hosts.values()) >= 15  # the first are not taken from the same rotation


def test_connections_are_kept(application: Application) -> None:
    pids = set()
    for _ in range(3):
        with application.master() as connection:
            pids.add(connection.pid())
    assert len(pids) == 1


def test_own_writes_are_visible(application: Application, cluster: Cluster) -> None:
    hosts: Counter[str] = Counter()
    for _ in range(100):
        value = next(numbers)
        with application.master() as connection:
            mark = connection.write(value)
        with application.replica(after=mark) as connection:
            assert connection.has(value)
            hosts[connection.address()] += 1
    assert all(hosts[replica.address] for replica in cluster.replicas)


def test_no_replica_has_the_write(application: Application, cluster: Cluster) -> None:
    """The master is read; other reads are not affected."""
    with paused(*cluster.replicas):
        value = next(numbers)
        with application.master() as connection:
            mark = connection.write(value)
        with application.replica(after=mark, wait_ms=0) as connection:
            assert connection.has(value)
            assert connection.address() == cluster.primary.address
        with application.replica() as connection:
            assert connection.address() != cluster.primary.address


def test_the_position_is_not_known(application: Application, cluster: Cluster) -> None:
    """A bookmark that pins its client to the master."""
    with application.replica(after=Bookmark(pinned_until=2**40)) as connection:
        assert connection.address() == cluster.primary.address


def test_bookmark_in_a_transaction(application: Application) -> None:
    """A position before the commit would not cover it."""
    with suppress(ZeroDivisionError), application.master() as connection:
        connection.query("BEGIN")
        with pytest.raises(Exception, match="call bookmark\\(\\) after"):
            connection.bookmark()
        connection.query("ROLLBACK")


def test_bookmark_of_a_replica(application: Application) -> None:
    with application.replica() as connection:
        pid = connection.pid()
        connection.query("ROLLBACK")
        with pytest.raises(Exception, match=r"call bookmark\(\) on a connection of master\(\)"):
            connection.bookmark()
        assert connection.pid() == pid


def test_an_exception_rolls_back(application: Application, kind: str) -> None:
    value = next(numbers)
    with pytest.raises(ZeroDivisionError), application.master() as connection:
        connection.query("BEGIN") if kind == "asyncpg" else None
        connection.query(f"INSERT INTO note (value) VALUES ({value})")
        raise ZeroDivisionError
    with application.master() as connection:
        assert not connection.has(value)


def test_read_only_transaction_on_the_master(application: Application) -> None:
    """All pooled connections are replaced, although the application catches the error."""
    with application.master() as first, application.master() as second:
        before = {first.pid(), second.pid()}
    with application.master() as connection:
        connection.query("BEGIN READ ONLY")
        with pytest.raises(Exception, match="read-only transaction"):
            connection.query(f"INSERT INTO note (value) VALUES ({next(numbers)})")
        connection.query("ROLLBACK")
    with application.master() as first, application.master() as second:
        assert not before & {first.pid(), second.pid()}


def test_read_only_transaction_on_a_replica(application: Application) -> None:
    """It is an error of the application, and the connection is kept."""
    pids = set()
    for _ in range(4):
        with application.replica() as connection:
            pids.add(connection.pid())
            with pytest.raises(Exception, match="read-only transaction"):
                connection.query("CREATE TABLE not_here ()")
            connection.query("ROLLBACK")
    assert len(pids) == 2


def test_lost_connection(application: Application, cluster: Cluster) -> None:
    with application.master() as idle:
        before = {idle.pid()}
        with (
            pytest.raises(Exception, match=r"terminating connection|closed|released"),
            application.master() as lost,
        ):
            pid = lost.pid()
            cluster.primary.sql("SELECT pg_terminate_backend(%s)", pid)
            wait_until_ended(cluster.primary, pid)
            lost.query("SELECT 1")
    with application.master() as connection:
        assert connection.pid() not in before


def test_lost_while_idle(application: Application, cluster: Cluster) -> None:
    """The next caller gets a connection that works."""
    with application.master() as first, application.master() as second:
        pids = {first.pid(), second.pid()}
    for pid in pids:
        cluster.primary.sql("SELECT pg_terminate_backend(%s)", pid)
    for pid in pids:
        wait_until_ended(cluster.primary, pid)
    with application.master() as first, application.master() as second:
        assert not pids & {first.pid(), second.pid()}


def test_a_late_replica(application: Application, cluster: Cluster) -> None:
    """It is not read, and its connections are closed; later it is read again."""
    late, other = cluster.replicas

    def addresses() -> set[str]:
        found = set()
        for _ in range(4):
            with application.replica(LIMITS) as connection:
                found.add(connection.address())
        return found

    assert addresses() == {late.address, other.address}
    with paused(late):
        with application.master() as connection:
            connection.write(next(numbers))
        wait_until("it is not read", lambda: addresses() == {other.address})
        wait_until("its connections are closed", lambda: backends(late) == 0)
    wait_until("it is read", lambda: addresses() == {late.address, other.address})


def test_no_replica_within_the_limits(application: Application, cluster: Cluster) -> None:
    """The master, unless the pool is for replicas only."""

    def address() -> str:
        with application.replica(LIMITS) as connection:
            return connection.address()

    def is_refused() -> bool:
        try:
            with application.replica({**LIMITS, "fallback": "none"}) as connection:
                connection.query("SELECT 1")
        except LookupError:
            return True
        return False

    with paused(*cluster.replicas):
        with application.master() as connection:
            connection.write(next(numbers))
        wait_until("the master is read", lambda: address() == cluster.primary.address)
        wait_until("the other pool has no host", is_refused)
    wait_until("a replica is read", lambda: address() != cluster.primary.address)


def test_exhausted(make_application: ApplicationFactory, daemon: Daemon, kind: str) -> None:
    application = make_application(daemon.url, max_size=1)
    with application.master() as connection:
        pid = connection.pid()
        with (
            pytest.raises((TimeoutError, psycopg.OperationalError)) as raised,
            application.master(timeout=0.1),
        ):
            pass
        assert "Timeout" in type(raised.value).__name__
        if kind != "asyncpg":
            assert "exhausted: 1 of max_size=1 connections are open" in str(raised.value)
    with application.master() as connection:
        assert connection.pid() == pid


def test_environment(
    make_application: ApplicationFactory,
    daemon: Daemon,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Variables of libpq do not lead to another host."""
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")
    with make_application(daemon.url).master() as connection:
        assert connection.address() == cluster.primary.address


def test_pg_status_is_not_running(
    make_application: ApplicationFactory, daemons: Daemons, cluster: Cluster
) -> None:
    """The known hosts are used; a read after a write uses the master."""
    daemon = daemons.start_in_sync(cluster)
    application = make_application(daemon.url)
    with application.master() as connection:
        connection.query("SELECT 1")
    with application.replica() as connection:
        connection.query("SELECT 1")
    daemon.process.kill()
    daemon.process.wait()
    value = next(numbers)
    with application.master() as connection:
        assert connection.address() == cluster.primary.address
        mark = connection.write(value)
    with application.replica(after=mark) as connection:
        assert connection.has(value)
    with application.replica() as connection:
        assert connection.address() != cluster.primary.address


LOGINS = {
    "wrong password": ({"password": "wrong"}, "password authentication failed"),
    "no password": ({"password": ""}, "password"),
    "no database": ({"dbname": "nowhere"}, 'database "nowhere" does not exist'),
    "no TLS": ({"sslmode": "require"}, "SSL"),
}
OF_ASYNCPG = {"dbname": "database", "sslmode": "ssl"}


@pytest.mark.parametrize("login", LOGINS)
def test_a_login_that_fails(
    make_application: ApplicationFactory,
    daemon: Daemon,
    kind: str,
    login: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The caller gets the reason, not a timeout; the log is not flooded, however many try."""
    options, reason = LOGINS[login]
    if kind == "asyncpg":
        options = {OF_ASYNCPG.get(name, name): value for name, value in options.items()}
        application = make_application(daemon.url, **options)
    else:
        application = make_application(daemon.url, kwargs=options)
    for _ in range(50):
        with pytest.raises(Exception, match=reason), application.master(timeout=600):
            pass
    assert len(caplog.records) < 25


def test_a_rejected_login_does_not_end_other_connections(
    make_application: ApplicationFactory, daemon: Daemon, cluster: Cluster, kind: str
) -> None:
    """For example if the role has reached its limit of connections."""
    cluster.primary.sql("CREATE ROLE limited LOGIN SUPERUSER PASSWORD 'x'")
    cluster.primary.sql("ALTER ROLE limited NOSUPERUSER CONNECTION LIMIT 1")
    options = {"user": "limited", "password": "x"}
    application = make_application(
        daemon.url, **(options if kind == "asyncpg" else {"kwargs": options})
    )
    try:
        with application.master() as connection:
            pid = connection.pid()
            with (
                pytest.raises(Exception, match=r"too many connections|1 of max_size=10"),
                application.master(timeout=0.5),
            ):
                pass
        with application.master() as connection:
            assert connection.pid() == pid
    finally:
        application.close()
        wait_until("it is not connected", lambda: not backends(cluster.primary))
        cluster.primary.sql("DROP ROLE limited")


def test_close(make_application: ApplicationFactory, daemon: Daemon, cluster: Cluster) -> None:
    """Idle connections are closed, and no new ones are made."""
    application = make_application(daemon.url)
    with ExitStack() as stack:
        stack.enter_context(application.master())
        stack.enter_context(application.replica())
    application.close()
    wait_until("all are closed", lambda: not any(map(backends, cluster.servers)))
    with pytest.raises(Exception, match="not open"), application.master():
        pass


def wait_until_ended(server: Server, pid: int) -> None:
    wait_until(
        f"backend {pid} has ended",
        lambda: not server.sql("SELECT FROM pg_stat_activity WHERE pid = %s", pid),
    )
