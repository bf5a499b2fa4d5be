"""The example project under gunicorn and load, while the cluster and pg-status fail.

The tests share one cluster, whose last two tests leave one host fewer each.
"""

import signal
from collections.abc import Callable, Iterator

import pytest

from pgstatus.demo.cluster import Cluster, Server
from pgstatus.demo.network import Network, free_port
from tests.conftest import Daemons
from tests.django.served import Clients, Gunicorn
from tests.support.clusters import Clusters
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def cluster(session_clusters: Clusters) -> Cluster:
    cluster = session_clusters.make()
    cluster.primary.sql("CREATE TABLE notes_note (id bigserial PRIMARY KEY, body text NOT NULL)")
    return cluster


@pytest.fixture(scope="module")
def daemon(cluster: Cluster, session_daemons: Daemons) -> Daemon:
    return session_daemons.start_in_sync(cluster)


@pytest.fixture(scope="module")
def gunicorn(
    cluster: Cluster, daemon: Daemon, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gunicorn]:
    address = network.address(1)
    log = tmp_path_factory.mktemp("gunicorn") / "log"
    with Gunicorn(log, daemon.url, address, free_port([address], 8400)) as gunicorn:
        yield gunicorn


@pytest.fixture
def clients(gunicorn: Gunicorn) -> Iterator[Clients]:
    with Clients(gunicorn.url) as clients:
        yield clients
    assert "callback" not in gunicorn.log


def at(server: Server) -> str:
    return f"{server.address}:{server.port}"


def test_the_replicas_share_the_reads(clients: Clients, cluster: Cluster) -> None:
    clients.wait_for(300)

    readers = clients.readers()
    assert {at(replica) for replica in cluster.replicas} <= readers.keys()
    assert clients.failed == []
    assert clients.stale(cluster) == []


def test_a_replica_falls_behind(clients: Clients, cluster: Cluster, daemon: Daemon) -> None:
    behind, ahead = cluster.replicas
    clients.wait_for(20)
    behind.sql("SELECT pg_wal_replay_pause()")
    try:
        clients.wait_for(200)
        wait_until(
            "the replica is not in sync any more",
            lambda: not daemon.host(behind.address)["sync_by_time"],
        )
        clients.wait_for(100)
        wait_until(
            "the late replica is not read from",
            lambda: at(behind) not in clients.readers(len(clients.pairs) - 100),
        )
    finally:
        behind.sql("SELECT pg_wal_replay_resume()")

    assert clients.readers(len(clients.pairs) - 100)[at(ahead)] > 0
    assert clients.failed == []
    assert clients.stale(cluster) == []


def _frozen(daemon: Daemon) -> None:
    daemon.process.send_signal(signal.SIGSTOP)


def _killed(daemon: Daemon) -> None:
    daemon.process.kill()
    daemon.process.wait()


@pytest.mark.parametrize("fail", [_frozen, _killed])
def test_pg_status_fails(
    clients: Clients, cluster: Cluster, daemon: Daemon, fail: Callable[[Daemon], None]
) -> None:
    clients.wait_for(20)
    fail(daemon)
    try:
        clients.wait_for(200)
    finally:
        if fail is _frozen:
            daemon.process.send_signal(signal.SIGCONT)
        else:
            daemon.launch()
            wait_until("pg-status responds", daemon.is_ready)
    clients.wait_for(100)

    assert clients.failed == []
    assert clients.stale(cluster) == []


def test_a_switchover(clients: Clients, cluster: Cluster, daemon: Daemon) -> None:
    """The old primary continues as a standby."""
    old, heir = cluster.primary, cluster.replicas[0]
    clients.wait_for(20)
    old.stop()  # it sends everything to the replicas first
    cluster.promote(heir)
    for replica in cluster.replicas:
        if replica is not old:
            replica.follow(heir)
    old.become_replica(heir)
    old.start()

    since = clients.wait_for_writes_to(at(heir))
    clients.wait_for(200)
    wait_until(
        lambda: f"the old primary serves reads: {clients.readers(since)} {daemon.json('/hosts')}",
        lambda: clients.readers(since)[at(old)],
        60,
    )

    assert [pair for pair in clients.pairs[since:] if pair.error] == []
    assert clients.stale(cluster) == []


def test_a_crash_and_promotion(clients: Clients, cluster: Cluster) -> None:
    clients.wait_for(20)
    cluster.fail_over()

    since = clients.wait_for_writes_to(at(cluster.primary))
    clients.wait_for(200)

    assert [pair for pair in clients.pairs[since:] if pair.error] == []
    assert clients.stale(cluster) == []


def test_the_primary_disappears(clients: Clients, cluster: Cluster) -> None:
    """It closes no connection, and the statements that it was sent have no answer."""
    frozen = cluster.primary
    [heir] = [replica for replica in cluster.replicas if replica.is_running]
    clients.wait_for(20)
    frozen.freeze()
    try:
        cluster.promote(heir)
        since = clients.wait_for_writes_to(at(heir))
        clients.wait_for(100)
    finally:
        frozen.crash()

    assert [pair for pair in clients.pairs[since:] if pair.error] == []
    assert clients.stale(cluster) == []
