"""Applications behind PgBouncer follow the master, and their connection string stays what it is."""

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
    """Start a daemon whose news reach PgBouncer: ``hook``, or ``poller``, run as by a timer."""
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
    """One transaction; the address of the server that it was done on."""
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
def test_the_next_transaction_is_done_on_the_new_master(
    make_cluster: ClusterFactory,
    make_follower: MakeFollower,
    follow: Callable[[Cluster, Follower], Daemon],
) -> None:
    """The application keeps its connection, too, and sees no error but a wait."""
    cluster = make_cluster()
    old = cluster.primary
    old.sql("CREATE TABLE written (at timestamptz DEFAULT now())")
    follower = make_follower()
    daemon = follow(cluster, follower)
    wait_until_at(follower, old)
    with follower.bouncer.connect() as application:
        assert write(application) == old.address
        wait_until("replicas have it", lambda: all(rows(r) == 1 for r in cluster.replicas))
        cluster.fail_over()
        new = cluster.primary
        assert write(application) == new.address

        # The old one comes back and says that it is a master. Nobody writes there.
        old.start()
        wait_until("it is seen", lambda: daemon.host(old.address)["error"] is None)
        assert daemon.host(old.address)["role"] == "master"
        assert {write(application) for _ in range(50)} == {new.address}
        with follower.bouncer.connect() as another:
            assert write(another) == new.address
    assert rows(old) == 1
    assert follower.bouncer.target() == f"{new.address}:{new.port}"


@both_ways
def test_while_there_is_no_master_nothing_is_changed(
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
    said = ""

    def it_says_so() -> bool:
        nonlocal said
        said += capfd.readouterr().err + daemon.log
        return "nobody is named as the master: all is left as it is" in said

    cluster.primary.crash()
    wait_until("it says so", it_says_so, 30)
    assert follower.file.read_text() == before
    assert follower.bouncer.target() == f"{cluster.primary.address}:{cluster.primary.port}"
    cluster.primary.start()
    with follower.bouncer.connect() as application:
        application.execute("CREATE TABLE written ()")


@both_ways
def test_a_frozen_master_holds_nobody(
    make_cluster: ClusterFactory,
    make_follower: MakeFollower,
    follow: Callable[[Cluster, Follower], Daemon],
) -> None:
    """Its connections stay open and fill the pool; those who hang are told, the others go on."""
    cluster = make_cluster(replicas=1)
    old, heir = cluster.servers
    old.sql("CREATE TABLE written (at timestamptz DEFAULT now())")
    wait_until("the heir has it", lambda: heir.sql("SELECT to_regclass('written')") != [(None,)])
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


def test_a_transaction_that_ends_in_time_on_the_old_master_is_not_cut_off(
    make_cluster: ClusterFactory, make_follower: MakeFollower
) -> None:
    """A planned change: both are up. ``-k`` is how long it waits; the next one goes elsewhere."""
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
        assert run.poll() is None, "it waits for the transaction"
        application.execute("COMMIT")
        _, words = run.communicate(timeout=30)
        assert run.returncode == 0
        assert "cut off" not in words
        for connection in (application, idle):
            [(address,)] = connection.execute("SELECT host(inet_server_addr())").fetchall()
            assert address == new.address


def test_a_console_that_does_not_answer_is_asked_again(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, make_follower: MakeFollower
) -> None:
    """PgBouncer stands still when the file is written: the RELOAD is made up for."""
    cluster = make_cluster(replicas=1)
    follower = make_follower()
    daemon = make_daemon(cluster, on_change=follower.command())
    wait_until_at(follower, cluster.primary)
    follower.bouncer.process.send_signal(signal.SIGSTOP)
    try:
        cluster.fail_over()
        wait_until("it has failed", lambda: "ended with status 69" in daemon.log, 30)
        assert "PgBouncer's console does not answer" in daemon.log
        wait_until("written", lambda: cluster.primary.address in follower.file.read_text(), 30)
    finally:
        follower.bouncer.process.send_signal(signal.SIGCONT)
    wait_until_at(follower, cluster.primary)


def test_a_pgbouncer_that_is_down_is_a_failure_until_it_is_up(
    cluster: Cluster, make_follower: MakeFollower
) -> None:
    follower = make_follower()
    follower.bouncer.end()
    told = {"MASTER": cluster.primary.address, "MASTER_PORT": str(cluster.primary.port)}
    assert follower.run(**told).returncode == 69
    with follower.bouncer:
        assert follower.bouncer.sql("SELECT 1") == [(1,)]
        follower.point_at(cluster.primary)
