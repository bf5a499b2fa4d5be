"""Where a benchmark takes place: a directory, addresses of its own, a primary and two replicas."""

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
    """All of it is gone when the benchmark is over."""

    directory: Path
    """Anybody may write there: PostgreSQL, PgBouncer and nginx give up root."""
    network: Network
    """.2 to .4 are the cluster's."""
    cluster: Cluster


@contextmanager
def a_place() -> Iterator[Place]:
    """Make it, and take it down in the end."""
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
