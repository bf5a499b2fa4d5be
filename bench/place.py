"""The environment of a benchmark: a directory, addresses, a primary and two replicas."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port


@dataclass(frozen=True)
class Place:
    """The environment; it is removed at the end of the benchmark."""

    directory: Path
    """Writable for every account, because PostgreSQL, PgBouncer and nginx drop root privileges."""
    network: Network
    """.2 to .4 are the cluster's."""
    cluster: Cluster


@contextmanager
def a_place() -> Iterator[Place]:
    """Create the environment, and remove it at the end."""
    with ExitStack() as undo:
        directory = Path(tempfile.mkdtemp(prefix="pg-status-bench-"))
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o777)
        network = Network()
        undo.callback(network.release)
        addresses = [network.address(last) for last in (2, 3, 4)]
        (directory / "cluster").mkdir()
        cluster = Cluster(
            bundled("18"), directory / "cluster", addresses, free_port(addresses, 5432)
        )
        undo.callback(cluster.stop)
        cluster.start()
        yield Place(directory, network, cluster)
