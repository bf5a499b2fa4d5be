"""A daemon that monitors several clusters, defined by files."""

from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import Daemons
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until


def definition(cluster: Cluster) -> str:
    """The file of ``clusters_dir`` that defines a cluster."""
    hosts = ",".join(f"{server.address}:{server.port}" for server in cluster.servers)
    return f"pg_status__hosts={hosts}\n"


def start_several(daemons: Daemons, directory: Path, files: dict[str, str]) -> Daemon:
    """A daemon with these files."""
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (directory / f"{name}.env").write_text(text)
    return daemons.start(clusters_dir=directory)


@pytest.fixture(name="several", scope="module")
def several_clusters(
    cluster: Cluster, session_daemons: Daemons, tmp_path_factory: pytest.TempPathFactory
) -> Daemon:
    """``orders`` is healthy, the host of ``users`` does not respond, ``stock`` is invalid."""
    address = cluster.primary.address
    daemon = start_several(
        session_daemons,
        tmp_path_factory.mktemp("clusters"),
        {
            "orders": definition(cluster),
            "stock": "pg_status__hosts=\n",
            "users": f"pg_status__hosts={address}:1\n",
        },
    )
    wait_until(
        "all replicas are in sync",
        lambda: daemon.json("/clusters")[0]["level"] == "ok",
    )
    return daemon
