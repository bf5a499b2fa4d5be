"""The migration from one instance per cluster to one for all, as docs/clusters.md describes it."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from pgstatus.demo.cluster import Cluster
from tests.conftest import ClusterFactory, Daemons
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

PAGE = (Path(__file__).parents[2] / "docs/clusters.md").read_text()
SECTION = PAGE.partition("## Migration from several instances")[2]


def block(language: str, containing: str) -> str:
    """The block of the section with this text."""
    blocks = re.findall(rf"( *)```{language}\n(.*?)```", SECTION, re.DOTALL)
    (found,) = (text for _, text in blocks if containing in text)
    return textwrap.dedent(found)


class Machine:
    """The directories of a machine with the package, and its instances."""

    def __init__(self, root: Path, daemons: Daemons) -> None:
        self.root = root
        self._daemons = daemons
        self.configuration = root / "etc/pg-status"
        self.state = root / "var/lib/pg-status"
        for directory in (self.configuration, self.state, root / "bin"):
            directory.mkdir(parents=True)
        program = root / "bin/pg-status"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pgstatus "$@"\n')
        program.chmod(0o755)

    def here(self, text: str) -> str:
        """Text of the page for the directories of this machine, which has no such account."""
        for directory in ("/etc/pg-status", "/var/lib/pg-status"):
            text = text.replace(directory, f"{self.root}{directory}")
        return text.replace(" -g pg-status", "")

    def run(self, script: str, status: int = 0) -> str:
        done = subprocess.run(
            ["sh", "-eu", "-c", self.here(script)],
            env={**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (status, ""), done.stdout
        return done.stdout

    def instance(self, name: str) -> Daemon:
        """What the unit ``pg-status@name`` starts."""
        file = self.configuration / f"{name}.env"
        daemon = self._daemons.prepare(env_file=file, state_file=self.state / f"{name}.json")
        text = re.sub(r"(?m)^(.*http_listen_address)=.*", rf"\1={daemon.address}", file.read_text())
        file.write_text(re.sub(r"(?m)^(.*http_port)=.*", rf"\1={daemon.port}", text))
        return daemon


def definition(cluster: Cluster) -> str:
    hosts = ",".join(f"{server.address}:{server.port}" for server in cluster.servers)
    return f"pg_status__hosts={hosts}\npg_status__sleep_ms=300\npg_status__log_level=info\n"


def test_the_steps_and_the_way_back(
    make_cluster: ClusterFactory, cluster: Cluster, daemons: Daemons, tmp_path: Path
) -> None:
    """The newest timeline is known after each change."""
    machine = Machine(tmp_path, daemons)
    orders = make_cluster(replicas=1)
    for name, one in {"orders": orders, "users": cluster}.items():
        (machine.configuration / f"{name}.env").write_text(definition(one))
    before = machine.instance("orders")
    with before:
        lost = orders.fail_over()
        heir = orders.primary
        wait_until("the new master", lambda: before.text("/master") == heir.address)
        wait_until("its timeline is stored", lambda: '"newest_timeline": 2' in _stored(machine))

        machine.run(block("sh", "install -d"))
        new = machine.configuration / "clusters.d/orders.env"
        assert new.stat().st_mode & 0o777 == 0o640
        assert "log_level" not in new.read_text()
        text = machine.here(block("ini", "clusters_dir"))
        (machine.configuration / "pg-status.env").write_text(text)
        main = machine.instance("pg-status")
        checked = machine.run(block("sh", "pg-status check"), 1)
        assert checked.endswith("FAILED: 1 of 2 clusters are OK; FAILED: orders\n")
        assert f"1 of 2 hosts responded, master {heir.address}:{heir.port}" in checked
        with main:
            steps = block("sh", "systemctl restart").splitlines()
            assert steps.pop(0) == "systemctl restart pg-status"
            assert f"{heir.address}:{heir.port}" in machine.run("\n".join(steps))
            for path in ("master", "replica?lag_ms=100000"):
                assert main.text(f"/c/orders/{path}") == before.text(f"/{path}")
            assert main.text("/c/users/master") == cluster.primary.address

    heir.stop()
    lost.start()
    with machine.instance("pg-status") as main:
        assert main.get("/c/orders/master").status_code == 404, "it was replaced"
    assert "pg-status@orders" in block("sh", "enable --now"), "the way back"
    with machine.instance("orders") as before:
        assert before.get("/master").status_code == 404


def _stored(machine: Machine) -> str:
    file = machine.state / "orders.json"
    return file.read_text() if file.exists() else ""
