"""Daemons that monitor several clusters: their variables and files, and their reload."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgstatus.demo.cluster import Cluster
from tests.support.daemon import Daemon


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
