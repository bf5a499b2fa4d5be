"""The packaged configuration behaves as documented in docs/haproxy.md: real HAProxy, failovers."""

import re
import signal
import subprocess
from os import kill
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import ClusterFactory, DaemonFactory, Daemons
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
from tests.support.several import definition, start_several
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(
    not Path(PROGRAM).exists(), reason="haproxy is not installed (Debian: haproxy)"
)


def test_haproxy_accepts_the_packaged_file() -> None:
    """The only warnings are about missing host names and the missing state file of this machine."""
    check = subprocess.run(
        [PROGRAM, "-c", "-f", CONFIGURATION], capture_output=True, text=True, check=False
    )
    output = check.stdout + check.stderr
    assert check.returncode == 0, output
    messages = [line for line in output.splitlines() if "[WARNING]" in line or "[ALERT]" in line]
    expected = ("could not resolve address 'pg", "Can't open global server state file")
    assert [line for line in messages if not any(text in line for text in expected)] == []


def test_writes_reach_the_master_and_reads_the_replicas(
    cluster: Cluster, daemon: Daemon, make_haproxy: HAProxyFactory
) -> None:
    haproxy = make_haproxy(cluster, daemon)
    assert haproxy.writes_reach(cluster.primary.address)
    assert haproxy.reads_reach(*(replica.address for replica in cluster.replicas))


def test_server_names_may_include_the_port(
    cluster: Cluster, daemon: Daemon, tmp_path: Path
) -> None:
    """This is required for hosts that share a name."""
    changes = {}
    for number in (1, 2, 3):
        changes[f"server pg{number} "] = f"server pg{number}:5432 "
        changes[f"track write/pg{number} "] = f"track write/pg{number}:5432 "
    with HAProxy(tmp_path, cluster, daemon, changes) as haproxy:
        haproxy.wait_for("write", f"{cluster.primary.address}:{cluster.primary.port}")
        haproxy.wait_for("read", *(f"{r.address}:{r.port}" for r in cluster.replicas))
        assert haproxy.writes_reach(cluster.primary.address)


def test_the_reason_of_pg_status_is_shown(
    cluster: Cluster, daemon: Daemon, make_haproxy: HAProxyFactory
) -> None:
    haproxy = make_haproxy(cluster, daemon)
    replica = cluster.replicas[0].address

    def is_shown() -> bool:
        row = haproxy.statistics()["write", replica]
        # While a check is running, its code is empty.
        return (row["check_status"], row["check_code"]) == ("L7STS", "503") and bool(
            re.fullmatch(rf"{replica}:\d+: replica, not master", row["last_chk"])
        )

    wait_until("the reason", is_shown)
    assert f'info: "{replica}' in haproxy.log


def test_after_a_crash_and_a_promotion_writes_reach_the_new_master(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, make_haproxy: HAProxyFactory
) -> None:
    """The other hosts are rebuilt and receive reads again without manual action."""
    cluster = make_cluster()
    haproxy = make_haproxy(cluster, make_daemon(cluster))
    assert haproxy.writes_reach(cluster.primary.address)
    cluster.fail_over()
    wait_until("writes", lambda: haproxy.writes_reach(cluster.primary.address))
    for replica in cluster.replicas:
        cluster.rebuild(replica)
    haproxy.settle(cluster)
    assert haproxy.reads_reach(*(replica.address for replica in cluster.replicas))


def test_sessions_to_a_replaced_master_are_closed(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, make_haproxy: HAProxyFactory
) -> None:
    """The old master stays writable: HAProxy closes its sessions and sends it no new ones."""
    cluster = make_cluster()
    haproxy = make_haproxy(cluster, make_daemon(cluster))
    old = cluster.primary
    with haproxy.write() as session:
        assert host_of(session) == old.address
        cluster.promote(cluster.replicas[0])
        wait_until("the session is closed", lambda: not is_open(session))
    assert old.sql("SELECT pg_is_in_recovery()") == [(False,)]
    haproxy.wait_for("write", cluster.primary.address)
    assert all(haproxy.writes_reach(cluster.primary.address) for _ in range(20))


def test_a_late_replica_receives_no_reads_until_it_catches_up(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, make_haproxy: HAProxyFactory
) -> None:
    """Its sessions are closed, so the limit applies to connection pools too. If all replicas are
    late, reads go to the master until one has caught up.
    """
    cluster = make_cluster()
    # A lower limit than in the file, to shorten the test.
    haproxy = make_haproxy(cluster, make_daemon(cluster), {"lag_ms=10000": "lag_ms=1000"})
    master, (one, other) = cluster.primary, cluster.replicas
    master.sql("CREATE TABLE news (at timestamptz)")

    def is_removed(address: str) -> bool:
        master.sql("INSERT INTO news VALUES (now())")
        return address not in haproxy.up("read")

    assert haproxy.reads_reach(one.address, other.address)
    sessions = [haproxy.read() for _ in range(4)]
    late, fresh = ([s for s in sessions if host_of(s) == r.address] for r in (one, other))
    assert late
    assert fresh

    one.sql("SELECT pg_wal_replay_pause()")
    wait_until("the replica is removed", lambda: is_removed(one.address))
    wait_until("its sessions are closed", lambda: not any(is_open(session) for session in late))
    assert all(is_open(session) for session in fresh)
    assert haproxy.reads_reach(other.address)

    other.sql("SELECT pg_wal_replay_pause()")
    wait_until("the other one is removed", lambda: is_removed(other.address))
    assert haproxy.reads_reach(master.address)
    on_master = haproxy.read()

    one.sql("SELECT pg_wal_replay_resume()")
    haproxy.wait_for("read", one.address)
    assert haproxy.reads_reach(one.address)
    wait_until("reads left the master", lambda: not is_open(on_master))
    other.sql("SELECT pg_wal_replay_resume()")
    haproxy.settle(cluster)
    assert haproxy.reads_reach(one.address, other.address)
    for session in (*sessions, on_master):
        session.close()


def test_a_crashed_replica_fails_no_read(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, make_haproxy: HAProxyFactory
) -> None:
    """Its sessions are redistributed to other replicas before a check has failed."""
    cluster = make_cluster()
    haproxy = make_haproxy(cluster, make_daemon(cluster))
    lost, other = cluster.replicas
    # No check detects the crash.
    haproxy.execute(f"disable health read/{lost.address}")
    lost.crash()
    assert haproxy.reads_reach(other.address)
    row = haproxy.statistics()["read", lost.address]
    assert row["status"] == "no check"
    assert int(row["wredis"]) > 0, "sessions were redistributed"


def test_one_of_several_clusters(cluster: Cluster, daemons: Daemons, tmp_path: Path) -> None:
    """With the command of docs/haproxy.md. If the cluster is removed, the servers keep their
    state."""
    page = (CONFIGURATION.parents[2] / "docs/haproxy.md").read_text()
    (command,) = re.findall(r"^sed -i .* haproxy\.cfg$", page, re.MULTILINE)
    edited = tmp_path / "haproxy.cfg"
    edited.write_text(CONFIGURATION.read_text())
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    changes = {
        'uri-lf "/': 'uri-lf "/c/orders/',
        "uri /replicas_info": "uri /c/orders/replicas_info",
    }
    expected = CONFIGURATION.read_text()
    for old, new in changes.items():
        expected = expected.replace(old, new)
    assert edited.read_text() == expected

    directory = tmp_path / "clusters"
    files = {"orders": definition(cluster), "users": definition(cluster)}
    daemon = start_several(daemons, directory, files)
    with HAProxy(tmp_path, cluster, daemon, changes) as haproxy:
        haproxy.settle(cluster)
        assert haproxy.writes_reach(cluster.primary.address)
        for text in (None, "pg_status__hosts=\n"):
            if text is None:
                (directory / "orders.env").unlink()
                kill(daemon.pid, signal.SIGHUP)
            else:
                (directory / "orders.env").write_text(text)
                daemon.stop()
                daemon.launch()
            wait_until("it has no answers", lambda: not haproxy.pg_status_is_up())
            haproxy.wait_for_checks(20)
            assert haproxy.up("write") == {cluster.primary.address}
            assert haproxy.up("read") == {replica.address for replica in cluster.replicas}
        (directory / "orders.env").write_text(definition(cluster))
        kill(daemon.pid, signal.SIGHUP)
        wait_until("it has answers", haproxy.pg_status_is_up)
        haproxy.settle(cluster)
