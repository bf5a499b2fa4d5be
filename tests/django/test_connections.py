"""When connections are opened, kept, replaced and closed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connections
from django.db.utils import ConnectionHandler, InternalError

from pgstatus.demo.cluster import Cluster
from pgstatus.django import base
from tests.conftest import Daemons
from tests.django.requests import Browser
from tests.support.clusters import Clusters
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

_numbers = count(1)
PID = "SELECT pg_catalog.pg_backend_pid()"


def value(connection: Any, query: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def write(connection: Any, body: str = "written") -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO notes_note (body) VALUES (%s)", [body])


class Application:
    """Connections to a cluster that the test may break."""

    daemon: Daemon

    def __init__(self, cluster: Cluster, url: str) -> None:
        self.cluster = cluster
        databases = {
            alias: settings.DATABASES[alias]
            | {
                "CONN_MAX_AGE": None,
                "OPTIONS": {"pg_status": {"url": url, "deadline": 10.0, **options}},
            }
            for alias, options in {
                "default": {},
                "replica": {"role": "replica", "lag_ms": 500, "master": "default"},
            }.items()
        }
        self.connections = ConnectionHandler(databases)

    def address(self, alias: str) -> str:
        """Where the next statement is executed, according to the server."""
        return str(value(self.connections[alias], "SELECT host(inet_server_addr())"))


@pytest.fixture(scope="module")
def breakable_cluster(session_clusters: Clusters) -> Cluster:
    """Each test but the last leaves it as it was."""
    cluster = session_clusters.make()
    cluster.primary.sql("CREATE TABLE notes_note (id bigserial PRIMARY KEY, body text)")
    return cluster


@pytest.fixture
def breakable(notes: Any, breakable_cluster: Cluster, daemons: Daemons) -> Iterator[Application]:
    # A client of its own, although daemons of several tests may have the same address.
    daemon = daemons.start_in_sync(breakable_cluster)
    application = Application(breakable_cluster, daemon.url + "/" * next(_numbers))
    application.daemon = daemon
    yield application
    application.connections.close_all()


def test_a_replica_that_falls_behind_is_left(breakable: Application) -> None:
    cluster = breakable.cluster
    late = breakable.address("replica")
    [behind] = [each for each in cluster.replicas if each.address == late]
    [ahead] = [each for each in cluster.replicas if each.address != late]

    behind.sql("SELECT pg_wal_replay_pause()")

    def moved() -> bool:
        write(breakable.connections["default"])
        return breakable.address("replica") == ahead.address

    wait_until("reads use the other replica", moved)
    behind.sql("SELECT pg_wal_replay_resume()")


def test_a_read_that_cannot_connect_uses_another_replica(breakable: Application) -> None:
    """pg-status does not notice the crash, because it is frozen."""
    replica = breakable.connections["replica"]
    lost = breakable.address("replica")
    [server] = [each for each in breakable.cluster.replicas if each.address == lost]
    breakable.daemon.process.send_signal(signal.SIGSTOP)
    server.crash()
    try:
        with pytest.raises(OperationalError):
            value(replica, PID)
        for _ in range(5):
            replica.close()
            assert breakable.address("replica") != lost
    finally:
        breakable.daemon.process.send_signal(signal.SIGCONT)
        server.start()


def test_a_read_waits_a_moment_for_a_host_that_accepts_connections(
    breakable: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash of the master, it may be named for reads until the crash is confirmed.

    pg-status, which is frozen, does not confirm it.
    """
    monkeypatch.setattr(base, "PATIENCE", 30.0)  # this machine may be slow
    cluster = breakable.cluster
    for replica in cluster.replicas:
        replica.stop()
    try:
        wait_until(
            "reads use the master",
            lambda: breakable.daemon.text("/replica").startswith(cluster.primary.address),
        )
        assert breakable.address("replica") == cluster.primary.address
        breakable.connections["replica"].close()
        breakable.daemon.process.send_signal(signal.SIGSTOP)
        cluster.primary.stop()
        restart = Timer(0.3, cluster.primary.start)
        restart.start()
        assert breakable.address("replica") == cluster.primary.address
        restart.join()
    finally:
        breakable.daemon.process.send_signal(signal.SIGCONT)
        for server in cluster.servers:
            if not server.is_running:
                server.start()


def test_without_pg_status_there_is_no_connection(notes: Any, cluster: Cluster) -> None:
    application = Application(cluster, "unix:/nonexistent/http.sock")

    with pytest.raises(OperationalError, match="pg-status: "):
        application.address("default")


def test_a_lost_connection_is_replaced_in_all_threads(notes: Any, cluster: Cluster) -> None:
    with ThreadPoolExecutor(1) as other:
        theirs = other.submit(lambda: value(connections["default"], PID)).result()
        mine = value(connections["default"], PID)
        cluster.primary.sql("SELECT pg_terminate_backend(%s)", mine)
        with pytest.raises(OperationalError):
            value(connections["default"], PID)

        assert value(connections["default"], PID) != mine
        assert other.submit(lambda: value(connections["default"], PID)).result() != theirs
        other.submit(connections.close_all).result()


def test_a_master_that_rejects_writes_is_given_up(notes: Any) -> None:
    connection = connections["default"]
    value(connection, "SELECT set_config('default_transaction_read_only', 'on', false)")
    before = value(connection, PID)
    with pytest.raises(InternalError, match="read-only"):
        notes.objects.create()

    notes.objects.create()

    assert value(connection, PID) != before


def test_a_write_to_a_replica_is_an_error_of_the_application(notes: Any) -> None:
    before = value(connections["replica"], PID)
    with pytest.raises(InternalError, match="read-only"):
        notes.objects.using("replica").create()

    assert value(connections["replica"], PID) == before


def test_a_thread_keeps_its_connections_to_all_replicas(notes: Any, browser: Browser) -> None:
    def view() -> tuple[int, int]:
        return value(connections["replica"], PID), value(connections["default"], PID)

    pids = [browser.run(view) for _ in range(8)]

    assert len({replica for replica, _ in pids}) <= 2
    assert len({master for _, master in pids}) == 1


def test_connections_are_closed_at_their_age(
    notes: Any, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    for alias in ("default", "replica"):
        monkeypatch.setitem(connections[alias].settings_dict, "CONN_MAX_AGE", 0)

    def view() -> tuple[int, int]:
        return value(connections["default"], PID), value(connections["replica"], PID)

    first, second = browser.run(view), browser.run(view)

    assert first[0] != second[0]
    assert first[1] != second[1]
    assert connections["replica"].connection is None


def test_a_kept_connection_that_was_terminated_is_replaced(
    notes: Any, browser: Browser, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections["replica"].settings_dict, "CONN_HEALTH_CHECKS", True)

    def view() -> int:
        return int(value(connections["replica"], PID))

    before = {browser.run(view) for _ in range(4)}
    for replica in cluster.replicas:
        replica.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY(%s)",
            list(before),
        )

    assert before.isdisjoint({browser.run(view) for _ in range(4)})


def test_an_iterator_is_not_interrupted(notes: Any) -> None:
    """A server-side cursor outside of a transaction belongs to the session."""
    notes.objects.bulk_create(notes(body=str(number)) for number in range(50))
    connection: Any = connections["default"]
    rows = notes.objects.order_by("id").iterator(chunk_size=10)
    next(rows)
    before = value(connection, PID)

    connection.pg_status.lose(connection._host)

    assert value(connection, PID) == before
    assert len(list(rows)) == 49
    assert value(connection, PID) != before


def test_a_forked_process_has_a_client_of_its_own(notes: Any) -> None:
    """As a worker of gunicorn with ``--preload`` that works in the main thread."""
    program = """
import os
import django
from django.db import connections
django.setup()
connection = connections["default"]
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
before = connection.pg_status
connections.close_all()
if os.fork() == 0:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert connection.pg_status is not before
    assert connection.choice.cluster is connection.pg_status
    connections.close_all()
    print("the child has its own", flush=True)
    os._exit(0)
os.wait()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout == "the child has its own\n", done.stderr


def test_dbshell_connects_to_the_reported_host(
    notes: Any, cluster: Cluster, tmp_path: Path
) -> None:
    psql = tmp_path / "psql"
    psql.write_text('#!/bin/sh\necho "$@"\n')
    psql.chmod(0o755)

    output = manage("dbshell", PATH=f"{tmp_path}:{os.environ['PATH']}")

    primary = cluster.primary
    assert f"-h {primary.address} -p {primary.port} postgres" in output


def test_test_databases(notes: Any) -> None:
    """They are created on the master; replicas are mirrors of it."""
    for order in ((), ("--reverse",)):
        output = manage("test", "--noinput", *order, "tests.django.suite")

        assert "Ran 7 tests" in output
        assert "OK" in output
        assert output.count("Creating test database") == 2


def manage(*arguments: str, **environment: str) -> str:
    """The output of a management command."""
    command = [sys.executable, "-m", "examples.django.manage", *arguments]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_fixtures_belong_to_the_master(notes: Any, tmp_path: Path) -> None:
    """Django includes the models that ``allow_migrate`` allows."""
    notes.objects.create(body="dumped")
    fixture = tmp_path / "notes.json"

    assert manage("dumpdata", "notes", "--database", "replica").strip() == "[]"
    fixture.write_text(manage("dumpdata", "notes"))
    assert "dumped" in fixture.read_text()
    assert "Installed 0 object(s)" in manage("loaddata", str(fixture), "--database", "replica")
    assert "Installed 1 object(s)" in manage("loaddata", str(fixture))


def test_a_connection_has_a_host_while_it_is_open(notes: Any, cluster: Cluster) -> None:
    connection: Any = connections["default"]
    assert connection.host is None
    connection.ensure_connection()

    assert connection.host == f"{cluster.primary.address}:{cluster.primary.port}"


def test_connections_follow_the_master(breakable: Application) -> None:
    """The previous primary continues, and accepts what it is sent: that would be lost."""
    cluster, master = breakable.cluster, breakable.connections["default"]
    before = cluster.primary
    assert breakable.address("default") == before.address
    replica = breakable.address("replica")
    heir = next(each for each in cluster.replicas if each.address != replica)
    in_transaction = ConnectionHandler(breakable.connections.settings)["default"]
    in_transaction.set_autocommit(False)
    write(in_transaction, "lost")

    cluster.promote(heir)
    open_transactions = "SELECT state FROM pg_stat_activity WHERE state = 'idle in transaction'"
    wait_until("the open transaction is ended", lambda: before.sql(open_transactions) == [])

    for _ in range(3):
        write(master, "moved")
    assert heir.sql("SELECT count(*) FROM notes_note WHERE body = 'moved'") == [(3,)]
    assert breakable.address("replica") in {replica, heir.address}
    with pytest.raises(OperationalError):
        in_transaction.commit()
    in_transaction.close()
    assert before.sql("SELECT body FROM notes_note WHERE body = 'lost'") == []
