"""Real clusters and real daemons for the tests.

``PGSTATUS_TEST_POSTGRES`` chooses the PostgreSQL servers: a comma-separated list of 16, 18 (from
the extra ``demo``) and of directories with the programs of another one.
"""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port
from tests.support.clusters import POSTGRES, Clusters, Templates
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

__all__ = ["POSTGRES", "ClusterFactory", "Clusters", "DaemonFactory", "Daemons"]

ClusterFactory = Callable[..., Cluster]
DaemonFactory = Callable[..., Daemon]


# How long an example takes depends on the load of the machine.
hypothesis.settings.register_profile("without deadline", deadline=None)
hypothesis.settings.load_profile("without deadline")

# The files that take longest. They begin first, so that no process works alone at the end.
_FIRST = (
    "tests/model/",
    "tests/system/test_network.py",
    "tests/system/test_failover.py",
    "tests/system/test_lag.py",
    "tests/system/test_hooks.py",
    "tests/system/test_resources.py",
    "tests/system/test_min_lsn.py",
    "tests/system/test_metrics.py",
    "tests/neighbours/",
)


def pytest_configure() -> None:
    # Started in the background by a shell, or by nohup, this process ignores them, and so would the
    # programs that the tests start and interrupt.
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def order(item: pytest.Item) -> int:
        names = [number for number, name in enumerate(_FIRST) if item.nodeid.startswith(name)]
        return names[0] if names else len(_FIRST)

    items.sort(key=order)


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Loopback addresses that no other test run uses; .1 is for daemons, the others for hosts."""
    network = Network()
    yield network
    network.release()


@pytest.fixture(scope="session")
def templates(network: Network) -> Iterator[Templates]:
    templates = Templates(network)
    yield templates
    templates.close()


@pytest.fixture(scope="session")
def session_clusters(network: Network, templates: Templates) -> Iterator[Clusters]:
    clusters = Clusters(network, templates)
    yield clusters
    clusters.close()


@pytest.fixture(scope="session")
def cluster(session_clusters: Clusters) -> Cluster:
    """A primary and two replicas that the tests must not change."""
    return session_clusters.make()


@pytest.fixture(scope="session")
def pair(cluster: Cluster, session_clusters: Clusters) -> Mapping[str, Cluster]:
    """Two clusters by name, which the tests must not change."""
    return {"orders": cluster, "my-shop": session_clusters.make(replicas=1)}


@pytest.fixture
def make_cluster(network: Network, templates: Templates) -> Iterator[ClusterFactory]:
    """Make a cluster that the test may break: ``make_cluster(replicas=2)``."""
    # Other addresses than those of the clusters of the session.
    clusters = Clusters(network, templates, first=100)
    yield clusters.make
    clusters.close()


UNCHANGED: dict[str, object] = {"query_timeout_ms": 30_000}
"""For daemons whose hosts remain as they are: a check that takes long is not a failed one."""


class Daemons:
    """Starts daemons on the address of this test run, each on a free port."""

    def __init__(self, network: Network, logs: Path) -> None:
        self._address = network.address(1)
        self._logs = logs
        self._undo = ExitStack()
        self._count = 0

    def prepare(self, cluster: Cluster | None = None, **variables: object) -> Daemon:
        """A daemon that is not running yet."""
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
        return self.enter(self.prepare(cluster, **variables))

    def enter(self, daemon: Daemon) -> Daemon:
        """Start a daemon that was prepared; it is ready."""
        return self._undo.enter_context(daemon)

    def start_in_sync(self, cluster: Cluster, **variables: object) -> Daemon:
        """A daemon that reports all hosts of the cluster in sync."""
        daemon = self.start(cluster, **variables)

        def all_in_sync() -> bool:
            hosts = daemon.json("/hosts")
            return all(host["sync_by_time"] and host["sync_by_bytes"] for host in hosts)

        wait_until("all hosts are in sync", all_in_sync)
        return daemon

    def close(self) -> None:
        self._undo.close()


@pytest.fixture
def daemons(network: Network, tmp_path: Path) -> Iterator[Daemons]:
    """Daemons with the settings of the test; they are stopped after it."""
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
    """A daemon that monitors ``cluster``; all hosts are in sync."""
    return session_daemons.start_in_sync(cluster, **UNCHANGED)
