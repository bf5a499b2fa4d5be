"""Daemons that monitor several clusters: their variables and files, and their reload."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import Daemons
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until


def hosts_of(cluster: Cluster) -> str:
    return ",".join(f"{server.address}:{server.port}" for server in cluster.servers)


def variables_of(clusters: Mapping[str, Cluster]) -> dict[str, Any]:
    keys = {name: name.replace("-", "_") for name in clusters}
    hosts = {f"{keys[name]}__hosts": hosts_of(cluster) for name, cluster in clusters.items()}
    return {"clusters": ",".join(clusters), **hosts}


class Directory:
    """A ``clusters_dir``."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.path = path

    def define(self, name: str, hosts: str, **more: object) -> None:
        lines = {"hosts": hosts, **more}
        text = "".join(f"pg_status__{key}={value}\n" for key, value in lines.items())
        (self.path / f"{name}.env").write_text(text)

    def remove(self, name: str) -> None:
        (self.path / f"{name}.env").unlink()


def reload(daemon: Daemon) -> subprocess.CompletedProcess[str]:
    """``pg-status reload``."""
    return subprocess.run(
        [sys.executable, "-m", "pgstatus", "reload", "--url", daemon.url, "--pid", str(daemon.pid)],
        env=daemon.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def start_several(daemons: Daemons, path: Path, files: Mapping[str, str]) -> Daemon:
    """A daemon with these files in its ``clusters_dir``."""
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / f"{name}.env").write_text(text)
    return daemons.start(clusters_dir=path)


def definition(cluster: Cluster) -> str:
    """The file that defines a cluster."""
    return f"pg_status__hosts={hosts_of(cluster)}\n"


@pytest.fixture(name="several", scope="module")
def several_clusters(
    cluster: Cluster, session_daemons: Daemons, tmp_path_factory: pytest.TempPathFactory
) -> Daemon:
    """``orders`` is healthy, the host of ``users`` does not respond, ``stock`` is invalid."""
    files = {
        "orders": definition(cluster),
        "stock": "pg_status__hosts=\n",
        "users": f"pg_status__hosts={cluster.primary.address}:1\n",
    }
    daemon = start_several(session_daemons, tmp_path_factory.mktemp("clusters"), files)
    wait_until("all are in sync", lambda: daemon.json("/clusters")[0]["level"] == "ok")
    return daemon
