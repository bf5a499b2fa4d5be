"""Lag in situations in which replication views are misleading, with real clusters."""

from collections.abc import Callable

import pytest

from pgstatus.demo.cluster import Server
from tests.chaos.events import frozen_receiver
from tests.conftest import ClusterFactory, DaemonFactory
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until


def lag_of(daemon: Daemon, server: Server) -> int | None:
    lag: int | None = daemon.host(server.address)["lag_ms"]
    return lag


def late(daemon: Daemon, server: Server) -> Callable[[], bool]:
    def is_late() -> bool:
        host = daemon.host(server.address)
        return not host["sync_by_time"] and (host["lag_ms"] or 0) > 1000

    return is_late


def write(server: Server) -> None:
    server.sql("SELECT pg_logical_emit_message(true, 'pg-status', 'a write')")


@pytest.mark.parametrize("role", ["postgres", "watcher"], ids=["pg_monitor", "login alone"])
def test_lag_in_each_situation(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, role: str
) -> None:
    """In this order: idle, a write, frozen receiver, paused replay, silent and lost primary."""
    cluster = make_cluster()
    primary, (replica, other) = cluster.primary, cluster.replicas
    primary.sql("CREATE ROLE watcher LOGIN PASSWORD 'postgres'")
    daemon = make_daemon(cluster, pg_user=role, sleep_ms=500)
    for server in (replica, other):
        wait_until("in sync", lambda s=server: daemon.host(s.address)["sync_by_time"])  # type: ignore[misc]

    # Idle for longer than the limit: the last transaction is old, but no replica is late.
    for _ in range(4):
        wait_for_check(daemon, replica)
        assert daemon.host(replica.address)["sync_by_time"]
        assert (lag_of(daemon, replica) or 0) < 500

    # One write on the idle cluster makes no replica late.
    for _ in range(4):
        write(primary)
        wait_for_check(daemon, replica)
    assert "is late" not in daemon.log

    # Receive = replay, but the lag grows as soon as the replica misses a write.
    with frozen_receiver(replica):
        write(primary)
        wait_until("the frozen receiver is late", late(daemon, replica))
        first = lag_of(daemon, replica)
        wait_until("the lag grows", lambda: (lag_of(daemon, replica) or 0) > (first or 0))
        assert daemon.host(other.address)["sync_by_time"]
        assert daemon.text("/sync_by_time") == other.address
    wait_until("it has caught up", lambda: daemon.host(replica.address)["sync_by_time"])

    # WAL is received but not replayed.
    replica.sql("SELECT pg_wal_replay_pause()")
    write(primary)
    wait_until("the paused replay is late", late(daemon, replica))
    replica.sql("SELECT pg_wal_replay_resume()")
    wait_until("it has caught up", lambda: daemon.host(replica.address)["sync_by_time"])

    # The primary is silent and may still commit: its last sample becomes older.
    primary.freeze()
    for server in (replica, other):
        wait_until("the lag grows without a response", late(daemon, server))
    assert daemon.text("/replica") in {replica.address, other.address}
    primary.thaw()
    for server in (replica, other):
        wait_until("in sync again", lambda s=server: daemon.host(s.address)["sync_by_time"])  # type: ignore[misc]

    # The primary is down and cannot commit: the lag is that of its last moment.
    primary.crash()
    wait_until("the primary is dead", lambda: not daemon.host(primary.address)["alive"])
    for server in (replica, other):
        wait_for_check(daemon, server)
        assert daemon.host(server.address)["in_sync"]
    assert daemon.text("/sync_by_time_and_bytes") in {replica.address, other.address}


def wait_for_check(daemon: Daemon, server: Server) -> None:
    before = daemon.host(server.address)["checked_at"]
    wait_until("another check", lambda: _checked_after(daemon, server, before))


def _checked_after(daemon: Daemon, server: Server, before: str) -> str | None:
    checked: str = daemon.host(server.address)["checked_at"]
    return checked if checked > before else None


def test_the_lag_of_a_standby_restarted_without_its_primary_is_unknown(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster(replicas=1)
    (replica,) = cluster.replicas
    cluster.primary.crash()
    replica.stop()
    replica.start()
    assert replica.sql("SELECT pg_last_xact_replay_timestamp()") == [(None,)]
    daemon = make_daemon(cluster)
    host = daemon.host(replica.address)
    assert (host["alive"], host["lag_ms"], host["lag_bytes"]) == (True, None, None)
    assert not host["sync_by_time"]
    assert not host["sync_by_bytes"]
    assert "lag unknown" in host["reason"]
    assert daemon.text("/replica") == replica.address
    assert daemon.get("/sync_by_time").status_code == 404


def test_a_busy_cluster_is_in_sync(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    """Under load, a replica is slightly behind at each check."""
    cluster = make_cluster(replicas=1)
    (replica,) = cluster.replicas
    daemon = make_daemon(cluster, sleep_ms=1500, sync_max_lag_ms=1000)
    wait_until("in sync", lambda: daemon.host(replica.address)["sync_by_time"])
    seen = daemon.host(replica.address)["checked_at"]
    checks = 0
    while checks < 3:
        write(cluster.primary)
        if now := _checked_after(daemon, replica, seen):
            seen, checks = now, checks + 1
    assert "not in sync by time" not in daemon.log
