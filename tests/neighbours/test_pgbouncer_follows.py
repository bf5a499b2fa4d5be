"""Applications behind PgBouncer follow the master without a change of their connection string."""

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest

from pgstatus.demo.cluster import Cluster, Server
from tests.conftest import ClusterFactory, DaemonFactory
from tests.neighbours.conftest import MakeFollower
from tests.support.bouncer import needs_pgbouncer
from tests.support.daemon import Daemon
from tests.support.follower import Follower
from tests.support.waiting import wait_until

pytestmark = needs_pgbouncer

WRITE = "INSERT INTO written DEFAULT VALUES RETURNING host(inet_server_addr())"


@pytest.fixture
def follow(
    request: pytest.FixtureRequest, make_daemon: DaemonFactory
) -> Iterator[Callable[[Cluster, Follower], Daemon]]:
    """Start a daemon with pgbouncer-follow as a ``hook``, or as a ``poller`` as run by a timer."""
    with ExitStack() as undo:

        def start(cluster: Cluster, follower: Follower) -> Daemon:
            if request.param == "hook":
                return make_daemon(cluster, on_change=follower.command())
            daemon = make_daemon(cluster)
            line = f"while :; do {follower.command('-u', daemon.url)}; sleep 0.5; done"
            timer = subprocess.Popen(["sh", "-c", line], start_new_session=True)
            undo.callback(timer.wait)
            undo.callback(timer.terminate)
            return daemon

        yield start


both_ways = pytest.mark.parametrize("follow", ["hook", "poller"], indirect=True)


def write(connection: psycopg.Connection) -> str:
    """Run one transaction; return the address of the server that executed it."""
    row = connection.execute(WRITE).fetchone()
    assert row is not None
    return str(row[0])


def rows(server: Server) -> int:
    [(count,)] = server.sql("SELECT count(*) FROM written")
    return int(count)


def wait_until_at(follower: Follower, server: Server, database: str = "postgres") -> None:
    def is_there() -> bool:
        return f"{server.address}:{server.port}" in {
            f"{row['host']}:{row['port']}"
            for row in follower.bouncer.show("DATABASES")
            if row["name"] == database
        }

    wait_until(f"{database} is at {server.address}", is_there, 30)


@both_ways
def test_the_next_transaction_runs_on_the_new_master(
    make_cluster: ClusterFactory,
    make_follower: MakeFollower,
    follow: Callable[[Cluster, Follower], Daemon],
) -> None:
    """The application keeps its connection and sees a delay but no error."""
    cluster = make_cluster()
    old = cluster.primary
    old.sql("CREATE TABLE written (at timestamptz DEFAULT now())")
    follower = make_follower()
    daemon = follow(cluster, follower)
    wait_until_at(follower, old)
    with follower.bouncer.connect() as application:
        assert write(application) == old.address
        wait_until("replicas have the row", lambda: all(rows(r) == 1 for r in cluster.replicas))
        cluster.fail_over()
        new = cluster.primary
        assert write(application) == new.address

        # The old primary returns as a primary. It receives no writes.
        old.start()
        wait_until("it is checked", lambda: daemon.host(old.address)["error"] is None)
        assert daemon.host(old.address)["role"] == "master"
        assert {write(application) for _ in range(50)} == {new.address}
        with follower.bouncer.connect() as another:
            assert write(another) == new.address
    assert rows(old) == 1
    assert follower.bouncer.target() == f"{new.address}:{new.port}"


@both_ways
def test_without_a_master_nothing_is_changed(
    make_cluster: ClusterFactory,
    make_follower: MakeFollower,
    follow: Callable[[Cluster, Follower], Daemon],
    capfd: pytest.CaptureFixture[str],
) -> None:
    cluster = make_cluster(replicas=1)
    follower = make_follower()
    daemon = follow(cluster, follower)
    wait_until_at(follower, cluster.primary)
    before = follower.file.read_text()
    output = ""

    def is_logged() -> bool:
        nonlocal output
        output += capfd.readouterr().err + daemon.log
        return "no master: nothing changed" in output

    cluster.primary.crash()
    wait_until("it is logged", is_logged, 30)
    assert follower.file.read_text() == before
    assert follower.bouncer.target() == f"{cluster.primary.address}:{cluster.primary.port}"
    cluster.primary.start()
    with follower.bouncer.connect() as application:
        application.execute("CREATE TABLE written ()")


@both_ways
def test_a_frozen_master_does_not_block_the_pool(
    make_cluster: ClusterFactory,
    make_follower: MakeFollower,
    follow: Callable[[Cluster, Follower], Daemon],
) -> None:
    """Its connections stay open and fill the pool: hanging clients fail, others continue."""
    cluster = make_cluster(replicas=1)
    old, heir = cluster.servers
    old.sql("CREATE TABLE written (at timestamptz DEFAULT now())")
    wait_until(
        "the replica has the table", lambda: heir.sql("SELECT to_regclass('written')") != [(None,)]
    )
    follower = make_follower("[databases]\npostgres = host=@HOST@ port=@PORT@ pool_size=2\n")
    follow(cluster, follower)
    wait_until_at(follower, old)
    with ExitStack() as undo:
        hanging = [undo.enter_context(follower.bouncer.connect()) for _ in range(2)]
        for connection in hanging:
            connection.execute("BEGIN")
            assert write(connection) == old.address
        old.freeze()
        undo.callback(old.thaw)
        errors: list[Exception] = []
        threads = [threading.Thread(target=_collect, args=(c, errors)) for c in hanging]
        for thread in threads:
            thread.start()
        cluster.promote(heir)
        wait_until_at(follower, heir)

        for thread in threads:
            thread.join(30)
        assert len(errors) == 2
        with follower.bouncer.connect() as application:
            assert {write(application) for _ in range(10)} == {heir.address}
        old.thaw()
        assert rows(old) == 0
    assert rows(heir) == 10


def _collect(connection: psycopg.Connection, errors: list[Exception]) -> None:
    try:
        write(connection)
        connection.execute("COMMIT")
    except psycopg.OperationalError as error:
        errors.append(error)


def test_a_transaction_on_the_old_master_may_end_within_the_grace_period(
    make_cluster: ClusterFactory, make_follower: MakeFollower
) -> None:
    """A switchover: the script waits up to ``-k`` seconds; the next transaction uses the new
    master.
    """
    cluster = make_cluster(replicas=1)
    old, new = cluster.servers
    follower = make_follower()
    follower.point_at(old)
    with follower.bouncer.connect() as application, follower.bouncer.connect() as idle:
        idle.execute("SELECT 1")
        application.execute("BEGIN")
        run = subprocess.Popen(
            follower.words("-k", "60"),
            env={"PATH": "/usr/bin:/bin", "PG_STATUS_MASTER": new.address}
            | {"PG_STATUS_MASTER_PORT": str(new.port)},
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until_at(follower, new)
        application.execute("CREATE TABLE written ()")
        assert run.poll() is None, "the script waits for the transaction"
        application.execute("COMMIT")
        _, words = run.communicate(timeout=30)
        assert run.returncode == 0
        assert "disconnecting" not in words
        for connection in (application, idle):
            [(address,)] = connection.execute("SELECT host(inet_server_addr())").fetchall()
            assert address == new.address


def test_a_console_that_does_not_respond_is_tried_again(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, make_follower: MakeFollower
) -> None:
    """PgBouncer is stopped when the file is written: RELOAD is sent later."""
    cluster = make_cluster(replicas=1)
    follower = make_follower()
    daemon = make_daemon(cluster, on_change=follower.command())
    wait_until_at(follower, cluster.primary)
    follower.bouncer.process.send_signal(signal.SIGSTOP)
    try:
        cluster.fail_over()
        wait_until("the hook has failed", lambda: "failed with exit status 69" in daemon.log, 30)
        assert "the console of PgBouncer does not respond" in daemon.log
        wait_until(
            "the file is written", lambda: cluster.primary.address in follower.file.read_text(), 30
        )
    finally:
        follower.bouncer.process.send_signal(signal.SIGCONT)
    wait_until_at(follower, cluster.primary)


def test_the_script_fails_until_pgbouncer_is_started(
    cluster: Cluster, make_follower: MakeFollower
) -> None:
    follower = make_follower()
    follower.bouncer.end()
    master = {"MASTER": cluster.primary.address, "MASTER_PORT": str(cluster.primary.port)}
    assert follower.run(**master).returncode == 69
    with follower.bouncer:
        assert follower.bouncer.sql("SELECT 1") == [(1,)]
        follower.point_at(cluster.primary)
