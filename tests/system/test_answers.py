"""Every endpoint of the contract, with a real daemon and a real cluster."""

from collections import Counter

import pytest

from pgstatus import __version__
from pgstatus.demo.cluster import Cluster
from tests.support.daemon import Daemon
from tests.support.each_postgres import cluster_of_each, daemon_of_each  # noqa: F401


def test_master_is_the_primary(daemon: Daemon, cluster: Cluster) -> None:
    assert daemon.text("/master") == cluster.primary.address
    assert daemon.json("/master")["role"] == "master"


@pytest.mark.parametrize(
    "path", ["/replica", "/sync_by_time", "/sync_by_bytes", "/replica?lag_ms=60000&lag_bytes=0"]
)
def test_replicas_are_returned_in_rotation(daemon: Daemon, cluster: Cluster, path: str) -> None:
    named = Counter(daemon.text(path) for _ in range(20))
    assert named == {replica.address: 10 for replica in cluster.replicas}


def test_most_sync_returns_the_first_of_equals(daemon: Daemon, cluster: Cluster) -> None:
    assert daemon.text("/most_sync_by_bytes") == cluster.replicas[0].address


def test_host_entry_has_every_field_of_the_contract(daemon: Daemon, cluster: Cluster) -> None:
    entry = daemon.host(cluster.replicas[0].address)
    assert list(entry) == [
        "host", "port", "dc", "geo", "master", "alive", "lag_ms", "sync_by_time", "lag_bytes",
        "sync_by_bytes", "in_sync", "lsn", "role", "possible_dead", "down", "timeline",
        "checked_at", "error", "reason", "upstream", "admits", "refusal",
    ]  # fmt: skip
    status = daemon.json(f"/status?host={cluster.replicas[0].address}")
    assert list(status) == list(entry)[1:]
    assert entry["role"] == "replica"
    assert entry["timeline"] == 1
    assert 0 <= entry["lag_ms"] < 1000


def test_min_lsn_requires_the_replayed_position(daemon: Daemon, cluster: Cluster) -> None:
    lsn = daemon.json("/replica")["lsn"]
    assert daemon.json(f"/replica?min_lsn={lsn}")["role"] == "replica"
    assert daemon.json("/replica?min_lsn=FFFFFFFF/0")["role"] == "master"


def test_version_live_ready_health(daemon: Daemon) -> None:
    assert daemon.text("/version") == __version__
    assert [daemon.text(path) for path in ("/live", "/ready", "/health")] == ["OK"] * 3
