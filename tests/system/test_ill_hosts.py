"""A host that cannot be checked: the reason is reported, and the other hosts are unaffected."""

import re
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.conftest import ClusterFactory, DaemonFactory
from tests.support.daemon import Daemon
from tests.support.each_postgres import cluster_of_each, daemon_of_each  # noqa: F401
from tests.support.illhosts import listener
from tests.support.liar import READY, complaint, data, description, honest, liar, message, row
from tests.support.waiting import wait_until

HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


def error_of(daemon: Daemon, host: str) -> str:
    return str(wait_until(f"an error of {host}", lambda: daemon.host(host)["error"]))


def wait_for_error(daemon: Daemon, host: str, text: str, port: int | None = None) -> None:
    """An error with this text. On a busy machine the first ones may be those of a time limit."""

    def has_it() -> bool:
        (entry,) = (
            each
            for each in daemon.json("/hosts")
            if each["host"] == host and port in {None, each["port"]}
        )
        return entry["error"] is not None and text in entry["error"]

    wait_until(lambda: f"{text!r} of {host}: {daemon.json('/hosts')}", has_it)


def wait_for_no_error(daemon: Daemon, cluster: Cluster) -> None:
    def are_healthy() -> bool:
        return all(daemon.host(server.address)["error"] is None for server in cluster.servers)

    wait_until("no host of the cluster has an error", are_healthy)


def watch(
    make_daemon: DaemonFactory, cluster: Cluster, *others: str, **variables: object
) -> Daemon:
    hosts = ",".join([*others, *(server.address for server in cluster.servers)])
    return make_daemon(cluster, **{"hosts": hosts, "connect_timeout": 0.5, **variables})


def test_failing_hosts_have_a_reason_and_the_master_is_reported(
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
        wait_until("the master", lambda: daemon.text("/master") == cluster.primary.address)
        wait_for_error(daemon, silent, "no connection within 0.5 s")
        wait_for_error(daemon, web, "received invalid response to SSL negotiation")
        wait_for_error(daemon, closed, "Connection refused")
        unknown = "no-such-host.invalid"
        wait_for_error(daemon, unknown, "cannot resolve the host name: ")
        wait_for_no_error(daemon, cluster)


def test_a_silent_host_does_not_delay_the_others(
    cluster: Cluster, make_daemon: DaemonFactory, network: Network
) -> None:
    silent = network.address(250)
    with listener(silent, None) as port:
        # Its checks take four seconds each, and a round begins every 0.1 s.
        daemon = watch(make_daemon, cluster, f"{silent}:{port}", sleep_ms=100, connect_timeout=4)
        watched_until = time.monotonic() + 3.5
        while time.monotonic() < watched_until:
            for server in cluster.servers:
                checked = datetime.fromisoformat(daemon.host(server.address)["checked_at"])
                # One pause, the recheck, and tolerance for a busy machine.
                assert (datetime.now(UTC) - checked).total_seconds() < 3


def test_a_wrong_password(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    daemon = make_daemon(cluster, pg_password="wrong")
    error = 'FATAL:  password authentication failed for user "postgres"'
    wait_for_error(daemon, cluster.primary.address, error)
    assert daemon.get("/master").status_code == 404
    assert "wrong" not in daemon.log


def test_a_missing_database(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    daemon = make_daemon(cluster, pg_database="nothing")
    wait_for_error(daemon, cluster.primary.address, 'database "nothing" does not exist')


def test_a_frozen_host_is_dropped_by_the_deadline_and_comes_back(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster()
    daemon = make_daemon(cluster, query_timeout_ms=500, connect_timeout=0.4, max_fails=3)
    frozen = cluster.replicas[0]
    wait_until("it is in sync", lambda: daemon.host(frozen.address)["sync_by_time"])
    frozen.freeze()
    wait_until("it is noticed", lambda: "no answer to the query within 0.5 s" in daemon.log)
    wait_until("it is dead", lambda: not daemon.host(frozen.address)["alive"])
    wait_for_error(daemon, frozen.address, "no connection within 0.4 s")
    wait_until("the master", lambda: daemon.text("/master") == cluster.primary.address)
    frozen.thaw()
    wait_until("it is back", lambda: daemon.host(frozen.address)["sync_by_time"])
    wait_for_no_error(daemon, cluster)


def test_too_many_clients_at_the_start(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    server = make_cluster(replicas=0).primary
    # The monitoring role is an ordinary one: the reserved slots are not for it.
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
    wait_until("it is the master", lambda: daemon.text("/master") == server.address)


def test_exhausted_slots_while_a_connection_is_kept(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    server = make_cluster(replicas=0).primary
    server.sql("CREATE ROLE watcher LOGIN PASSWORD 'watcher' CONNECTION LIMIT 3")
    daemon = make_daemon(
        hosts=f"{server.address}:{server.port}",
        pg_user="watcher",
        pg_password="watcher",
        conn_max_age_ms=500,
    )
    as_watcher = server.conninfo + " user=watcher password=watcher"
    with psycopg.connect(as_watcher), psycopg.connect(as_watcher):
        wait_until("it is reported", lambda: daemon.host(server.address)["admits"] is False)
        assert "too many connections" in daemon.host(server.address)["refusal"]
        reported_until = time.monotonic() + 2
        while time.monotonic() < reported_until:
            assert daemon.text("/master") == server.address
    wait_until("it is accepted again", lambda: daemon.host(server.address)["admits"])
    assert daemon.host(server.address)["refusal"] is None


def test_a_standby_that_accepts_no_queries(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster(replicas=1)
    (replica,) = cluster.replicas
    replica.sql("ALTER SYSTEM SET hot_standby = off")
    replica.stop()
    replica.launch()
    daemon = make_daemon(cluster)
    # PostgreSQL 13; since PostgreSQL 14.
    messages = re.compile("is starting up|is not (yet )?accepting connections")
    wait_until(
        "the message of the server", lambda: messages.search(error_of(daemon, replica.address))
    )
    assert daemon.text("/replica") == cluster.primary.address


def test_a_password_from_a_file_is_read_at_every_connect(
    cluster: Cluster, make_daemon: DaemonFactory, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong\n")
    primary = cluster.primary.address
    daemon = make_daemon(cluster, pg_password_file=file)
    wait_for_error(daemon, primary, "password authentication failed")
    file.unlink()
    wait_until(
        "the missing file is reported", lambda: "cannot read the" in error_of(daemon, primary)
    )
    file.write_text("postgres\n")
    wait_until("the right password is used", lambda: daemon.text("/master") == primary)


# What the host responds, and a part of the reported reason.
INVALID: list[tuple[bytes, str]] = [
    (honest(in_recovery=b"maybe"), "expected t or f"),
    (honest(in_recovery=None), "expected t or f"),
    (honest(written=b"x/y"), "HEX/HEX"),
    (honest(written=b"\xff"), "utf-8"),
    (honest(wal_file=b"no file"), "the name of a WAL file"),
    (honest(wal_file=b"0" * 24), "the name of a WAL file"),
    (honest(wal_file=b"F" * 400), "the name of a WAL file"),
    (honest(wal_file=None), "the name of a WAL file"),
    (honest(receiving=b"abc"), "expected t or f"),
    (honest(host_time=b"x"), "expected an integer"),
    (honest(host_time=b"NaN"), "expected an integer"),
    (honest(host_time=b"1e999"), "expected an integer"),
    (honest(host_time=b"9" * 20), "expected an integer"),
    (honest(host_time=None), "expected a time"),
    (honest(replay_time=b"yesterday"), "expected an integer"),
    (honest(system_identifier=b"{}"), "expected an integer"),
    (honest(timeline=b"9" * 5000), "expected an integer"),
    (honest(timeline=b"1.5"), "expected an integer"),
    (honest(sender_port=b"65536"), "expected an integer"),
    (honest(next_xid=b"x" * 51), "at most 50"),
    (honest(standbys=b"{" * 10_000), "pg_stat_replication"),
    (row([b"f"]), "20 columns"),
    (row([]), "20 columns"),
    (row([b"x"] * 100), "20 columns"),
    (READY, "expected one row, got 0"),
    (
        description(1) + 2 * data([b"x"]) + message(b"C", b"SELECT 2\0") + READY,
        "expected one row, got 2",
    ),
    (message(b"H", b"\0\0\0"), "unexpected response"),
    (message(b"G", b"\0\0\0"), "unexpected response"),
    (message(b"W", b"\0\0\0"), "unexpected response"),
    (100 * message(b"I", b"") + READY, "unexpected response"),
    (b"\xff" * 100, ""),
    (READY[:3], "no answer to the query within"),
]


def test_an_invalid_response_is_a_failed_check_of_that_host(
    cluster: Cluster, make_daemon: DaemonFactory, network: Network
) -> None:
    address = network.address(250)
    with ExitStack() as stack:
        ports = [stack.enter_context(liar(address, answer)) for answer, _ in INVALID]
        hosts = [f"{address}:{port}" for port in ports]
        daemon = watch(make_daemon, cluster, *hosts, query_timeout_ms=1000)
        wait_until("the master", lambda: daemon.text("/master") == cluster.primary.address)
        for port, (_, words) in zip(ports, INVALID, strict=True):
            wait_for_error(daemon, address, words, port)
        assert "Traceback" not in daemon.log


def test_a_message_of_a_host_becomes_one_line_of_limited_length(
    cluster: Cluster, make_daemon: DaemonFactory, network: Network
) -> None:
    """Neither a forged line of the log nor control sequences for a terminal."""
    address = network.address(250)
    text = b"evil \r\x1b[2J2026-01-01T00:00:00.000Z INFO     master is 6.6.6.6" + b"x" * 20_000
    with liar(address, complaint(text)) as port:
        daemon = watch(make_daemon, cluster, f"{address}:{port}", sleep_ms=100)
        # On a busy machine a login can take longer than the limit; this has another error.

        def message() -> str | None:
            error = error_of(daemon, address)
            return error if error.startswith("evil   [2J2026") else None

        error = wait_until("the message", message)
        assert error is not None
        assert error.endswith(" …")
        assert len(error) < 500
        assert "\r" not in daemon.log
        assert "\x1b" not in daemon.log
