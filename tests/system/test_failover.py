"""Failovers and switchovers of real clusters: which host is reported as the master."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import ClusterFactory, DaemonFactory
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until


def names(daemon: Daemon, address: str) -> bool:
    return daemon.text("/master") == address


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT], ids=["crash", "switchover"])
def test_the_new_master_is_reported_before_the_next_round(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, how: signal.Signals
) -> None:
    cluster = make_cluster()
    daemon = make_daemon(cluster, sleep_ms=60_000)
    cluster.primary.stop(how)
    heir = cluster.replicas[0]
    cluster.promote(heir)
    wait_until("the new master is reported", lambda: names(daemon, heir.address))


def test_a_frozen_primary_is_replaced_at_the_next_round(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster()
    daemon = make_daemon(cluster, sleep_ms=1000, query_timeout_ms=60_000, connect_timeout=60)
    frozen = cluster.primary
    frozen.freeze()
    cluster.promote(cluster.replicas[0])
    # Its check is pending: neither the deadline nor max_fails can have an effect.
    wait_until("the new master is reported", lambda: names(daemon, cluster.primary.address), 10)
    frozen.thaw()


def test_a_frozen_replica_is_skipped_long_before_its_deadline(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster()
    daemon = make_daemon(cluster, sleep_ms=500, query_timeout_ms=60_000, connect_timeout=60)
    frozen, other = cluster.replicas
    wait_until(
        "both are in sync",
        lambda: all(daemon.host(replica.address)["sync_by_time"] for replica in cluster.replicas),
    )
    frozen.freeze()
    wait_until(
        "the replica is possibly dead", lambda: daemon.host(frozen.address)["possible_dead"], 10
    )
    assert {daemon.text("/sync_by_time") for _ in range(10)} == {other.address}
    frozen.thaw()
    wait_until(
        "the replica is alive again", lambda: not daemon.host(frozen.address)["possible_dead"], 10
    )


def test_a_returning_old_master_is_not_reported_until_it_is_rebuilt(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster()
    daemon = make_daemon(cluster)
    old = cluster.primary
    cluster.fail_over()
    wait_until("the new master is reported", lambda: names(daemon, cluster.primary.address))

    old.start()
    old.sql("CREATE TABLE written_to_the_wrong_one ()")
    wait_until("the old master is checked", lambda: daemon.host(old.address)["error"] is None)
    assert daemon.host(old.address)["role"] == "master"
    reason = daemon.host(old.address)["reason"]
    assert "timeline 1, but timeline 2 exists" in reason
    assert names(daemon, cluster.primary.address)
    assert daemon.log.count("split brain: ") == 1

    cluster.primary.crash()
    wait_until(
        "no master is reported", lambda: daemon.get("/master").status_code == 404, timeout=30
    )
    answer = daemon.json("/master")
    assert answer["host"] is None
    assert "master on timeline 1" in answer["reason"]

    cluster.primary.start()
    wait_until("the right master is reported again", lambda: names(daemon, cluster.primary.address))
    cluster.rebuild(old)
    wait_until("it is in sync", lambda: daemon.host(old.address)["sync_by_time"])
    assert daemon.host(old.address)["reason"] is None


@pytest.mark.parametrize("restarted", ["daemon", "worker"])
def test_the_old_master_is_not_reported_after_a_restart(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, tmp_path: Path, restarted: str
) -> None:
    cluster = make_cluster(replicas=1)
    state_file = tmp_path / "state.json"
    daemon = make_daemon(cluster, state_file=state_file)
    old = cluster.primary
    cluster.fail_over()
    wait_until("the new master is reported", lambda: names(daemon, cluster.primary.address))
    # On a slow disk, the result of the first round may not have been written yet.
    wait_until("the state file exists", state_file.exists)
    wait_until("the timeline is written", lambda: '"newest_timeline": 2' in state_file.read_text())
    cluster.primary.crash()
    old.start()
    if restarted == "daemon":
        daemon.stop()
        daemon = make_daemon(cluster, state_file=state_file)
        ignorant = make_daemon(cluster)
        assert names(ignorant, old.address)
    else:
        daemon.kill_and_relaunch()
    assert daemon.host(old.address)["role"] == "master"
    answer = daemon.json("/master")
    assert answer["host"] is None
    assert "timeline 1, but timeline 2 exists" in answer["reason"]
    cluster.primary.start()
    wait_until("the right master is reported", lambda: names(daemon, cluster.primary.address), 30)


def test_a_replica_of_the_returned_old_master_is_never_in_sync(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster()
    daemon = make_daemon(cluster)
    old, heir, stray = cluster.servers
    old.crash()
    cluster.promote(heir)
    old.start()
    # The old master and its replica continue beyond the LSN of the new master.
    old.sql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))")
    wait_until("the replica has the WAL", lambda: stray.lsn() > heir.lsn())
    wait_until("the new master is reported", lambda: names(daemon, heir.address))
    host = wait_until("the replica is not in sync", lambda: _not_in_sync(daemon, stray.address))
    assert host is not None
    assert host["reason"] == "on timeline 1 (master's timeline: 2)"
    assert daemon.text("/sync_by_bytes") == heir.address
    assert daemon.text("/replica?min_lsn=0/1") == heir.address


def _not_in_sync(daemon: Daemon, address: str) -> dict[str, Any] | None:
    host = daemon.host(address)
    return host if not host["sync_by_time"] and not host["sync_by_bytes"] else None


def test_a_host_of_another_cluster_is_excluded(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster, other = make_cluster(replicas=1), make_cluster(replicas=0, own_identifier=True)
    other.primary.crash()
    other.primary.start()
    stranger = f"{other.primary.address}:{other.primary.port}"
    hosts = ",".join([stranger, *(s.address for s in cluster.servers)])
    daemon = make_daemon(hosts=hosts, pg_port=cluster.primary.port)
    assert names(daemon, cluster.primary.address)
    assert "different cluster" in daemon.host(other.primary.address)["reason"]
    assert daemon.json("/replicas_info") == [{"host": cluster.replicas[0].address}]


@pytest.mark.parametrize("policy", ["first", "none"])
def test_other_policies_for_a_split_brain(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, policy: str
) -> None:
    cluster = make_cluster()
    daemon = make_daemon(cluster, split_brain=policy)
    old, heir = cluster.primary, cluster.replicas[0]
    cluster.promote(heir)
    wait_until("both are primaries", lambda: daemon.host(heir.address)["role"] == "master")
    if policy == "first":
        assert names(daemon, old.address)
    else:
        answer = daemon.get("/master")
        assert answer.status_code == 503
        for server in (old, heir):
            assert f"{server.address}:{server.port} (timeline" in answer.json()["error_text"]
        claims = [f"{server.address}:{server.port}" for server in (old, heir)]
        assert answer.json()["split_brain"] == claims


def test_the_state_from_before_a_long_pause_is_not_served(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    """The daemon is stopped during a failover."""
    cluster = make_cluster()
    daemon = make_daemon(cluster, sleep_ms=100, query_timeout_ms=300, max_staleness_ms=500)
    pid, old = daemon.pid, cluster.primary
    os.kill(pid, signal.SIGSTOP)
    frozen_at = time.monotonic()
    cluster.fail_over()
    old.start()
    wait_until("its state is stale", lambda: time.monotonic() - frozen_at > 1)
    os.kill(pid, signal.SIGCONT)
    answers = set()

    def new_master_is_named() -> bool:
        answers.add(daemon.get("/master").text)
        return cluster.primary.address in answers

    wait_until("the new master is reported", new_master_is_named)
    assert old.address not in answers


def test_repeated_switchovers(make_cluster: ClusterFactory, make_daemon: DaemonFactory) -> None:
    cluster: Cluster = make_cluster()
    daemon = make_daemon(cluster)
    for timeline in (2, 3, 4):
        lost = cluster.fail_over()
        wait_until("the new master is reported", lambda: names(daemon, cluster.primary.address))
        assert daemon.json(f"/status?host={cluster.primary.address}")["timeline"] == timeline
        cluster.rebuild(lost)
        for replica in cluster.replicas:
            wait_until("in sync", lambda r=replica: daemon.host(r.address)["sync_by_time"])  # type: ignore[misc]
