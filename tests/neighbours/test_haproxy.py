"""What docs/haproxy.md promises of the shipped configuration: a real HAProxy, real failovers."""

import re
import subprocess
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import ClusterFactory, DaemonFactory
from tests.neighbours.haproxy import (
    CONFIGURATION,
    PROGRAM,
    HAProxy,
    HAProxyFactory,
    haproxies,  # noqa: F401
    host_of,
    is_open,
)
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(
    not Path(PROGRAM).exists(), reason="haproxy is not installed (Debian: haproxy)"
)


def test_haproxy_accepts_the_shipped_file() -> None:
    """What it warns of is only what this machine lacks: the hosts, and a state of before."""
    check = subprocess.run(
        [PROGRAM, "-c", "-f", CONFIGURATION], capture_output=True, text=True, check=False
    )
    output = check.stdout + check.stderr
    assert check.returncode == 0, output
    complaints = [line for line in output.splitlines() if "[WARNING]" in line or "[ALERT]" in line]
    here = ("could not resolve address 'pg", "Can't open global server state file")
    assert [line for line in complaints if not any(words in line for words in here)] == []


def test_writes_reach_the_master_and_reads_the_replicas(
    cluster: Cluster, daemon: Daemon, make_haproxy: HAProxyFactory
) -> None:
    haproxy = make_haproxy(cluster, daemon)
    assert haproxy.writes_reach(cluster.primary.address)
    assert haproxy.reads_reach(*(replica.address for replica in cluster.replicas))


def test_servers_may_be_named_with_their_port(
    cluster: Cluster, daemon: Daemon, tmp_path: Path
) -> None:
    """As hosts have to be that share a name."""
    changes = {}
    for number in (1, 2, 3):
        changes[f"server pg{number} "] = f"server pg{number}:5432 "
        changes[f"track write/pg{number} "] = f"track write/pg{number}:5432 "
    with HAProxy(tmp_path, cluster, daemon, changes) as haproxy:
        haproxy.wait_for("write", f"{cluster.primary.address}:{cluster.primary.port}")
        haproxy.wait_for("read", *(f"{r.address}:{r.port}" for r in cluster.replicas))
        assert haproxy.writes_reach(cluster.primary.address)


def test_what_pg_status_says_against_a_server_is_shown(
    cluster: Cluster, daemon: Daemon, make_haproxy: HAProxyFactory
) -> None:
    haproxy = make_haproxy(cluster, daemon)
    replica = cluster.replicas[0].address

    def is_shown() -> bool:
        row = haproxy.statistics()["write", replica]
        # While a check is under way its code is not there.
        return (row["check_status"], row["check_code"]) == ("L7STS", "503") and bool(
            re.fullmatch(f"{replica}.* is a replica", row["last_chk"])
        )

    wait_until("the reason", is_shown)
    assert f'info: "{replica}' in haproxy.log


def test_after_a_crash_and_a_promotion_writes_reach_the_new_master(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, make_haproxy: HAProxyFactory
) -> None:
    """The others are rebuilt, and take reads without anybody's help."""
    cluster = make_cluster()
    haproxy = make_haproxy(cluster, make_daemon(cluster))
    assert haproxy.writes_reach(cluster.primary.address)
    cluster.fail_over()
    wait_until("writes", lambda: haproxy.writes_reach(cluster.primary.address))
    for replica in cluster.replicas:
        cluster.rebuild(replica)
    haproxy.settle(cluster)
    assert haproxy.reads_reach(*(replica.address for replica in cluster.replicas))


def test_sessions_to_a_master_of_yesterday_are_cut(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, make_haproxy: HAProxyFactory
) -> None:
    """It lives on, writable: nothing but HAProxy ends the sessions, and no new one reaches it."""
    cluster = make_cluster()
    haproxy = make_haproxy(cluster, make_daemon(cluster))
    old = cluster.primary
    with haproxy.write() as session:
        assert host_of(session) == old.address
        cluster.promote(cluster.replicas[0])
        wait_until("it is cut", lambda: not is_open(session))
    assert old.sql("SELECT pg_is_in_recovery()") == [(False,)]
    haproxy.wait_for("write", cluster.primary.address)
    assert all(haproxy.writes_reach(cluster.primary.address) for _ in range(20))


def test_a_late_replica_leaves_the_reads_and_returns(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, make_haproxy: HAProxyFactory
) -> None:
    """Sessions to it are cut, too: the limit holds for a pool as well. With no replica left the
    master is read, until one has caught up.
    """
    cluster = make_cluster()
    # It need not be ten seconds late before the test goes on.
    haproxy = make_haproxy(cluster, make_daemon(cluster), {"lag_ms=10000": "lag_ms=1000"})
    master, (one, other) = cluster.primary, cluster.replicas
    master.sql("CREATE TABLE news (at timestamptz)")

    def leaves(address: str) -> bool:
        master.sql("INSERT INTO news VALUES (now())")
        return address not in haproxy.up("read")

    assert haproxy.reads_reach(one.address, other.address)
    sessions = [haproxy.read() for _ in range(4)]
    late, fresh = ([s for s in sessions if host_of(s) == r.address] for r in (one, other))
    assert late
    assert fresh

    one.sql("SELECT pg_wal_replay_pause()")
    wait_until("it leaves", lambda: leaves(one.address))
    wait_until("its sessions are cut", lambda: not any(is_open(session) for session in late))
    assert all(is_open(session) for session in fresh)
    assert haproxy.reads_reach(other.address)

    other.sql("SELECT pg_wal_replay_pause()")
    wait_until("the other leaves", lambda: leaves(other.address))
    assert haproxy.reads_reach(master.address)
    stopgap = haproxy.read()

    one.sql("SELECT pg_wal_replay_resume()")
    haproxy.wait_for("read", one.address)
    assert haproxy.reads_reach(one.address)
    wait_until("the master is rid of reads", lambda: not is_open(stopgap))
    other.sql("SELECT pg_wal_replay_resume()")
    haproxy.settle(cluster)
    assert haproxy.reads_reach(one.address, other.address)
    for session in (*sessions, stopgap):
        session.close()


def test_a_crashed_replica_costs_no_read(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, make_haproxy: HAProxyFactory
) -> None:
    """Those that would have gone to it go elsewhere, before any check has failed."""
    cluster = make_cluster()
    haproxy = make_haproxy(cluster, make_daemon(cluster))
    lost, other = cluster.replicas
    # Nobody finds out by a check.
    haproxy.say(f"disable health read/{lost.address}")
    lost.crash()
    assert haproxy.reads_reach(other.address)
    row = haproxy.statistics()["read", lost.address]
    assert row["status"] == "no check"
    assert int(row["wredis"]) > 0, "no session was sent to it first"
