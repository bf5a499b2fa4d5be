"""A host that cannot be asked says why in words, and the others never notice."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.conftest import ClusterFactory, DaemonFactory
from tests.support.daemon import Daemon
from tests.support.each_postgres import cluster_of_each, daemon_of_each  # noqa: F401
from tests.support.illhosts import listener
from tests.support.liar import BOOL, FLOAT8, HONEST, INT8, NUMERIC, TEXT, complaint, liar, row
from tests.support.waiting import wait_until

HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


def error_of(daemon: Daemon, host: str) -> str:
    return str(wait_until(f"an error of {host}", lambda: daemon.host(host)["error"]))


def watch(
    make_daemon: DaemonFactory, cluster: Cluster, *others: str, **variables: object
) -> Daemon:
    hosts = ",".join([*others, *(server.address for server in cluster.servers)])
    return make_daemon(cluster, **{"hosts": hosts, "connect_timeout": 0.5, **variables})


def test_ill_hosts_say_why_and_the_master_is_named(
    cluster: Cluster, make_daemon: DaemonFactory, network: Network
) -> None:
    silent, web, closed = (network.address(last) for last in (250, 251, 252))
    with listener(silent, None) as silent_port, listener(web, HTTP) as web_port:
        daemon = watch(
            make_daemon,
            cluster,
            f"{silent}:{silent_port}",
            f"{web}:{web_port}",
            f"{closed}:1",
            "no-such-host.invalid",
        )
        assert daemon.text("/master") == cluster.primary.address
        assert error_of(daemon, silent) == "no connection within 0.5 s"
        assert re.search("received invalid response to SSL negotiation", error_of(daemon, web))
        assert error_of(daemon, closed) == "Connection refused"
        assert "cannot resolve no-such-host.invalid" in error_of(daemon, "no-such-host.invalid")
        for server in cluster.servers:
            assert daemon.host(server.address)["error"] is None


def test_a_silent_host_does_not_delay_the_others(
    cluster: Cluster, make_daemon: DaemonFactory, network: Network
) -> None:
    silent = network.address(250)
    with listener(silent, None) as port:
        # Its checks hang for four seconds each, and a round begins every tenth.
        daemon = watch(make_daemon, cluster, f"{silent}:{port}", sleep_ms=100, connect_timeout=4)
        watched_until = time.monotonic() + 2
        while time.monotonic() < watched_until:
            for server in cluster.servers:
                checked = datetime.fromisoformat(daemon.host(server.address)["checked_at"])
                # One pause, the second look, and patience with a busy machine.
                assert (datetime.now(UTC) - checked).total_seconds() < 2


def test_a_wrong_password(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    daemon = make_daemon(cluster, pg_password="wrong")
    error = error_of(daemon, cluster.primary.address)
    assert error == 'FATAL:  password authentication failed for user "postgres"'
    assert daemon.get("/master").status_code == 404
    assert "wrong" not in daemon.log


def test_a_missing_database(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    daemon = make_daemon(cluster, pg_database="nothing")
    assert error_of(daemon, cluster.primary.address).endswith('database "nothing" does not exist')


def test_a_frozen_host_is_dropped_by_the_deadline_and_comes_back(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster()
    daemon = make_daemon(cluster, query_timeout_ms=500, connect_timeout=0.4, max_fails=3)
    frozen = cluster.replicas[0]
    frozen.freeze()
    assert error_of(daemon, frozen.address) == "no answer to the query within 0.5 s"
    wait_until("it is dead", lambda: not daemon.host(frozen.address)["alive"])
    assert error_of(daemon, frozen.address) == "no connection within 0.4 s"
    assert daemon.text("/master") == cluster.primary.address
    frozen.thaw()
    wait_until("it is back", lambda: daemon.host(frozen.address)["sync_by_time"])
    assert daemon.host(frozen.address)["error"] is None


def test_too_many_clients_and_then_room_again(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    server = make_cluster(replicas=0).primary
    # The monitoring role is an ordinary one: the reserved places are not for it.
    server.sql("CREATE ROLE watcher LOGIN PASSWORD 'watcher'")
    server.sql("ALTER SYSTEM SET max_connections = 5")
    server.sql("ALTER SYSTEM SET superuser_reserved_connections = 2")
    server.sql("ALTER SYSTEM SET max_wal_senders = 2")
    server.stop()
    server.start()
    as_watcher = server.conninfo + " user=watcher password=watcher"
    taken = [psycopg.connect(as_watcher) for _ in range(3)]
    daemon = make_daemon(
        hosts=f"{server.address}:{server.port}", pg_user="watcher", pg_password="watcher"
    )
    assert re.search(
        "too many clients|remaining connection slots", error_of(daemon, server.address)
    )
    for connection in taken:
        connection.close()
    wait_until("it is seen", lambda: daemon.text("/master") == server.address)


def test_a_standby_that_accepts_no_queries(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster(replicas=1)
    (replica,) = cluster.replicas
    replica.sql("ALTER SYSTEM SET hot_standby = off")
    replica.stop()
    replica.launch()
    daemon = make_daemon(cluster)
    wait_until(
        "the server's own words",
        lambda: (
            "not accepting connections" in error_of(daemon, replica.address)
            or "not yet accepting" in error_of(daemon, replica.address)
        ),
    )
    assert daemon.text("/replica") == cluster.primary.address


def test_a_password_from_a_file_is_read_at_every_connect(
    cluster: Cluster, make_daemon: DaemonFactory, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong\n")
    primary = cluster.primary.address
    daemon = make_daemon(cluster, pg_password_file=file)
    assert "password authentication failed" in error_of(daemon, primary)
    file.unlink()
    wait_until("its absence is told", lambda: "cannot read the" in error_of(daemon, primary))
    file.write_text("postgres\n")
    wait_until("the right password is used", lambda: daemon.text("/master") == primary)


def lies(place: int, oid: int, text: bytes | None) -> bytes:
    """An honest primary's row but for one column."""
    return row([*HONEST[:place], (oid, text), *HONEST[place + 1 :]])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(lies(0, TEXT, b"maybe"), "expected bool", id="role"),
        pytest.param(lies(0, BOOL, None), "expected bool", id="no role"),
        pytest.param(lies(1, TEXT, b"x/y"), "HEX/HEX", id="lsn"),
        pytest.param(lies(1, TEXT, b"\xff"), "utf-8", id="no text"),
        pytest.param(lies(2, TEXT, b"no file"), "invalid literal", id="wal file"),
        pytest.param(lies(2, TEXT, None), "expected", id="no wal file"),
        pytest.param(lies(3, INT8, b"abc"), "abc", id="receivers"),
        pytest.param(lies(5, FLOAT8, b"x"), "x", id="time"),
        pytest.param(lies(5, FLOAT8, b"NaN"), "finite", id="time is no number"),
        pytest.param(lies(6, TEXT, b"yesterday"), "expected float", id="replayed at"),
        pytest.param(lies(7, TEXT, b"{}"), "expected int", id="identifier"),
        pytest.param(lies(8, NUMERIC, b"1.5"), "expected int", id="timeline"),
        pytest.param(row(HONEST[:3]), "9 columns", id="too few"),
        pytest.param(row([]), "9 columns", id="none"),
    ],
)
def test_a_host_that_answers_with_nonsense_is_ill_and_nothing_else(
    cluster: Cluster, make_daemon: DaemonFactory, network: Network, answer: bytes, words: str
) -> None:
    address = network.address(250)
    with liar(address, answer) as port:
        daemon = watch(make_daemon, cluster, f"{address}:{port}", sleep_ms=100)
        assert words in error_of(daemon, address)
        assert daemon.text("/master") == cluster.primary.address
        assert "defect" not in daemon.log


def test_words_of_a_host_are_one_line_of_bearable_length(
    cluster: Cluster, make_daemon: DaemonFactory, network: Network
) -> None:
    """Neither a forged line of the log nor a command for somebody's terminal."""
    address = network.address(250)
    text = b"evil \r\x1b[2J2026-01-01T00:00:00.000Z INFO     master is 6.6.6.6" + b"x" * 1_000_000
    with liar(address, complaint(text)) as port:
        daemon = watch(make_daemon, cluster, f"{address}:{port}", sleep_ms=100)
        error = error_of(daemon, address)
        assert error.startswith("evil   [2J2026")
        assert error.endswith(" …")
        assert len(error) < 500
        assert "\r" not in daemon.log
        assert "\x1b" not in daemon.log
