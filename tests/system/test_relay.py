"""A relay with real watchers: failovers, watchers that fail, and hosts on which they disagree."""

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import ClusterFactory, Daemons
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until


class Fleet:
    """Three watchers of one cluster, and a relay."""

    def __init__(self, daemons: Daemons, cluster: Cluster, **variables: object) -> None:
        self.daemons = daemons
        self.cluster = cluster
        self.watchers = [daemons.start(cluster, sleep_ms=500) for _ in range(3)]
        self.relay = self.another_relay(**variables)

    def another_relay(self, **variables: object) -> Daemon:
        upstreams = ",".join(watcher.url for watcher in self.watchers)
        variables.setdefault("upstreams", upstreams)
        return self.daemons.start(None, sleep_ms=500, **variables)


@pytest.fixture
def fleet(daemons: Daemons, make_cluster: ClusterFactory) -> Fleet:
    return Fleet(daemons, make_cluster())


def is_master(daemon: Daemon, address: str) -> bool:
    return daemon.text("/master") == address


def test_a_failover_is_reported(fleet: Fleet) -> None:
    relay, cluster = fleet.relay, fleet.cluster
    assert is_master(relay, cluster.primary.address)
    wait_until(
        "the replicas are in sync",
        lambda: all(relay.host(r.address)["in_sync"] for r in cluster.replicas),
    )
    cluster.fail_over()
    wait_until("the new master is reported", lambda: is_master(relay, cluster.primary.address))
    wait_until(
        "the remaining replica is in sync",
        lambda: any(relay.host(r.address)["in_sync"] for r in cluster.replicas),
    )
