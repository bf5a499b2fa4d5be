"""Pools for one of several clusters: the URL of pg-status ends in ``/c/NAME``."""

import time

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import Daemons
from tests.pools.conftest import ApplicationFactory
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def several(cluster: Cluster, session_daemons: Daemons) -> Daemon:
    """``orders`` is the cluster; no host of ``users`` responds."""
    daemon = session_daemons.start(
        cluster, clusters="orders,users", users__hosts=f"{cluster.primary.address}:1"
    )
    wait_until("all hosts are in sync", lambda: daemon.json("/clusters")[0]["level"] == "ok")
    return daemon


def test_connections_and_answers_that_follow_the_cluster(
    several: Daemon, cluster: Cluster, make_application: ApplicationFactory
) -> None:
    orders = make_application(f"{several.url}/c/orders")
    with orders.master() as connection:
        assert connection.address() == cluster.primary.address
        value = time.time_ns()
        mark = connection.write(value)
    with orders.replica(after=mark) as connection:
        assert connection.address() in {replica.address for replica in cluster.replicas}
        assert connection.has(value)


def test_another_cluster_has_other_answers(
    several: Daemon, make_application: ApplicationFactory
) -> None:
    users = make_application(f"{several.url}/c/users", timeout=1)
    with pytest.raises(Exception, match="no live host is a master"), users.master():
        pass
    unknown = make_application(f"{several.url}/c/other", timeout=1)
    with pytest.raises(Exception, match="unknown cluster other"), unknown.master():
        pass
