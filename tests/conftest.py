"""Real clusters and real daemons for every test that wants them.

``PGSTATUS_TEST_POSTGRES`` chooses the PostgreSQL servers: a comma-separated list of 16, 18 (from
the extra ``demo``) and of directories with the programs of another one.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

POSTGRES = os.environ.get("PGSTATUS_TEST_POSTGRES", "16,18").split(",")

ClusterFactory = Callable[..., Cluster]
DaemonFactory = Callable[..., Daemon]


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Loopback addresses that no other test run uses; .1 is the daemon's, .2 on the hosts'."""
    network = Network()
    yield network
    network.release()


def _bindir(name: str) -> Path:
    return Path(name) if name.startswith("/") else bundled(name)


class Clusters:
    """Makes clusters on ever new addresses, and takes them all down in the end."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._next = 10
        self._undo = ExitStack()

    def make(self, postgres: str = POSTGRES[-1], replicas: int = 2) -> Cluster:
        addresses = []
        for _ in range(1 + replicas):
            addresses.append(self._network.address(self._next))
            self._next += 1
        directory = Path(tempfile.mkdtemp(prefix="pg-status-test-"))
        self._undo.callback(shutil.rmtree, directory, ignore_errors=True)
        cluster = Cluster(_bindir(postgres), directory, addresses, free_port(addresses, 5432))
        self._undo.callback(cluster.stop)
        cluster.start()
        return cluster

    def close(self) -> None:
        self._undo.close()


@pytest.fixture(scope="session")
def session_clusters(network: Network) -> Iterator[Clusters]:
    clusters = Clusters(network)
    yield clusters
    clusters.close()


@pytest.fixture(scope="session")
def cluster(session_clusters: Clusters) -> Cluster:
    """A primary and two replicas that tests may ask but leave as they found them."""
    return session_clusters.make()


@pytest.fixture
def make_cluster(network: Network) -> Iterator[ClusterFactory]:
    """Make a cluster that the test may break: ``make_cluster(replicas=2)``."""
    clusters = Clusters(network)
    # Addresses of the session's clusters stay theirs.
    clusters._next = 100
    yield clusters.make
    clusters.close()


class Daemons:
    """Starts daemons on the run's own address, each on a free port."""

    def __init__(self, network: Network, logs: Path) -> None:
        self._address = network.address(1)
        self._logs = logs
        self._undo = ExitStack()
        self._count = 0

    def prepare(self, cluster: Cluster | None = None, **variables: object) -> Daemon:
        """A daemon that is not started yet."""
        if cluster is not None:
            variables.setdefault("hosts", ",".join(s.address for s in cluster.servers))
            variables.setdefault("pg_port", cluster.primary.port)
        variables.setdefault("sleep_ms", 200)
        self._count += 1
        log = self._logs / f"daemon{self._count}.log"
        port = free_port([self._address], 8000)
        return Daemon(log, variables, address=self._address, port=port)

    def start(self, cluster: Cluster | None = None, **variables: object) -> Daemon:
        """A daemon that is ready."""
        return self._undo.enter_context(self.prepare(cluster, **variables))

    def start_in_sync(self, cluster: Cluster) -> Daemon:
        """A daemon that sees all of the cluster in sync."""
        daemon = self.start(cluster)

        def all_in_sync() -> bool:
            hosts = daemon.json("/hosts")
            return all(host["sync_by_time"] and host["sync_by_bytes"] for host in hosts)

        wait_until("all hosts are in sync", all_in_sync)
        return daemon

    def close(self) -> None:
        self._undo.close()


@pytest.fixture
def daemons(network: Network, tmp_path: Path) -> Iterator[Daemons]:
    """Daemons by the test's own wishes; they are stopped after it."""
    daemons = Daemons(network, tmp_path)
    yield daemons
    daemons.close()


@pytest.fixture
def make_daemon(daemons: Daemons) -> DaemonFactory:
    """Start a daemon: ``make_daemon(cluster, sleep_ms=200)``; it is stopped after the test."""
    return daemons.start


@pytest.fixture(scope="session")
def session_daemons(
    network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemons]:
    daemons = Daemons(network, tmp_path_factory.mktemp("daemons"))
    yield daemons
    daemons.close()


@pytest.fixture(scope="session")
def daemon(cluster: Cluster, session_daemons: Daemons) -> Daemon:
    """A daemon that watches ``cluster``, all of it in sync."""
    return session_daemons.start_in_sync(cluster)
