"""Daemons: watchers of a real cluster that publish through NATS, and relays that follow them."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.conftest import ClusterFactory, Daemons
from tests.support.daemon import Daemon
from tests.support.nats import NatsCluster
from tests.support.waiting import wait_until


class Fleet:
    """Three NATS servers, two watchers, and relays."""

    def __init__(self, daemons: Daemons, cluster: Cluster, servers: NatsCluster) -> None:
        self.daemons = daemons
        self.cluster = cluster
        self.servers = servers
        self.variables: dict[str, object] = {
            "nats": servers.urls,
            "nats_replicas": 3,
            "cluster_name": "orders",
            "sleep_ms": 500,
            "query_timeout_ms": 500,
        }
        self.watchers = [
            daemons.start(cluster, **self.variables | {"nats_name": name}) for name in ("w1", "w2")
        ]
        self.relay = self.start_relay()

    def start_relay(self, **variables: object) -> Daemon:
        return self.daemons.start(None, **self.variables | variables)

    def start_relay_with_fallback(self, **variables: object) -> Daemon:
        hosts = ",".join(server.address for server in self.cluster.servers)
        return self.start_relay(
            hosts=hosts, pg_port=self.cluster.primary.port, fallback_direct="true", **variables
        )


@pytest.fixture
def fleet(
    network: Network, tmp_path: Path, daemons: Daemons, make_cluster: ClusterFactory
) -> Iterator[Fleet]:
    with ExitStack() as undo:
        servers = undo.enter_context(NatsCluster(tmp_path / "nats", network))
        yield Fleet(daemons, make_cluster(), servers)


def check(relay: Daemon) -> None:
    """``pg-status check`` and the metrics name the watchers."""
    command = [sys.executable, "-m", "pgstatus", "check"]
    done = subprocess.run(
        command, env=relay.environment, capture_output=True, text=True, check=False
    )
    assert "5 of 5 NATS servers and watchers respond" in done.stdout, done
    assert done.returncode == 0
    series = re.findall(r'pg_status_upstream_up\{.*upstream="(.*)"\} 1.0', relay.text("/metrics"))
    assert sorted(series) == ["nats:w1", "nats:w2"]


def test_reload_fresh_reads_and_failover(fleet: Fleet) -> None:
    """The steps use one fleet, because it takes seconds to start."""
    relay, cluster = fleet.relay, fleet.cluster
    former = cluster.primary
    assert relay.text("/master") == former.address
    assert {host["watcher"] for host in relay.json("/hosts")} <= {"w1", "w2"}
    assert "psycopg" not in Path(f"/proc/{relay.pid}/maps").read_text()
    check(relay)
    reload(fleet.watchers[0])
    assert relay.text("/master") == former.address
    read_own_writes(fleet)
    cluster.fail_over()
    everywhere = [relay, *fleet.watchers]
    wait_until(
        "the new master",
        lambda: all(daemon.text("/master") == cluster.primary.address for daemon in everywhere),
    )
    for watcher in fleet.watchers:
        watcher.stop()
        assert "Traceback" not in watcher.log
    for server in cluster.servers:
        if server.is_running:
            server.crash()
    # The only server that runs was the master once. The bucket holds the newest timeline.
    former.start()
    new = fleet.daemons.prepare(cluster, **fleet.variables | {"fallback_direct": "true"})
    with new.launched():
        wait_until("it responds", new.answers)
        wait_until("it has checked the hosts", lambda: new.get("/ready").status_code == 200, 30)
        assert new.host(former.address)["alive"]
        assert new.get("/master").status_code == 404
    for daemon in (relay, new):
        assert "Traceback" not in daemon.log


def reload(watcher: Daemon) -> None:
    count = watcher.log.count("reloaded")
    watcher.process.send_signal(signal.SIGHUP)
    wait_until("it is reloaded", lambda: watcher.log.count("reloaded") > count)


def read_own_writes(fleet: Fleet) -> None:
    """Requests that wait for a position are passed on to the watchers."""
    cluster = fleet.cluster
    cluster.primary.sql("CREATE TABLE written (n int PRIMARY KEY)")
    with psycopg.connect(cluster.primary.conninfo, autocommit=True) as writer:
        for n in range(20):
            writer.execute("INSERT INTO written VALUES (%s)", [n])
            row = writer.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
            assert row is not None
            host = fleet.relay.text(f"/replica?min_lsn={row[0]}&wait_ms=5000")
            server = next(server for server in cluster.replicas if server.address == host)
            assert server.sql("SELECT n FROM written WHERE n = %s", n), f"row {n} is not on {host}"


def test_without_servers_nothing_is_reported_on_old_evidence(fleet: Fleet) -> None:
    """A relay without the hosts answers until its evidence is too old; another checks them."""
    direct = fleet.start_relay_with_fallback()
    primary = fleet.cluster.primary.address
    for server in fleet.servers.servers:
        server.kill()
    wait_until("evidence is too old", lambda: fleet.relay.get("/master").status_code == 503)
    wait_until("the hosts are checked", lambda: direct.text("/master") == primary, 30)
    # What happens now is not known to the other relay.
    fleet.cluster.fail_over()
    wait_until(
        "the new master", lambda: direct.text("/master") == fleet.cluster.primary.address, 30
    )
    assert fleet.relay.get("/master").status_code == 503
    fleet.servers.launch()
    wait_until(
        "evidence is back", lambda: fleet.relay.text("/master") == fleet.cluster.primary.address, 30
    )
