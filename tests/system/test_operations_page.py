"""The commands of docs/operations.md, executed as written on a cluster, in the order of the page.

Only names are replaced: those of the hosts, of the URL and of the configuration file.
"""

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster, Server
from tests.conftest import POSTGRES, ClusterFactory, DaemonFactory
from tests.support.clusters import Templates
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()
_BLOCK = re.compile(r"^( *)```sh\n *# on (.*?)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_ACCESS = """\
host all         postgres   127.0.0.0/8 trust
host replication replicator 127.0.0.0/8 trust
"""
_PG_CTL = """\
#!/bin/sh
# The address and the port are not those in the configuration, which is a copy of another host's.
exec {program} "$@" -o "-c listen_addresses=$ADDRESS -c port=$PGPORT"
"""
_SYSTEMCTL = """\
#!/bin/sh
# A restart is tested with systemd (tests/packaging).
test "$1" = restart || exec pg-status "$1" --pid {pid}
"""


class Machines:
    """The machines of the page: pg1 to pg4, and that of pg-status."""

    def __init__(self, cluster: Cluster, bindir: Path, daemon: Daemon, env_file: Path) -> None:
        self.hosts = {f"pg{n}": server for n, server in enumerate(cluster.servers, 1)}
        self.daemon = daemon
        self._env_file = env_file
        self._backup = cluster.primary.data.with_name("base")
        self._programs = cluster.primary.data.with_name("bin")  # accessible to all accounts
        self._programs.mkdir()
        self._path = f"{self._programs}:{bindir}:{os.environ['PATH']}"
        self._program("pg_ctl", _PG_CTL.format(program=bindir / "pg_ctl"))
        self._program("pg-status", f'#!/bin/sh\nexec {sys.executable} -m pgstatus "$@"\n')
        self._program("systemctl", _SYSTEMCTL.format(pid=daemon.pid))

    def run(self, title: str, **names: str) -> None:
        """Execute the commands below a heading, with other names of hosts: ``pg1="pg2"``."""
        section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        blocks = _BLOCK.findall(section)
        assert blocks
        for indentation, where, commands in blocks:
            text = re.sub(rf"^{indentation}", "", commands, flags=re.MULTILINE)
            text = re.sub(r"\bpg\d\b", lambda found: names.get(found[0], found[0]), text)
            if "pg-status check" in text:
                self._wait_for_replay()
            for name in re.findall(r"pg\d|pg-status", where):
                self._run(names.get(name, name), text)

    def back_up(self, name: str) -> None:
        """A base backup of this host, as ``/backup/base``."""
        self._run(name, f"pg_basebackup --username replicator --checkpoint fast -D {self._backup}")

    def _wait_for_replay(self) -> None:
        """The replicas have replayed what the commands before have written."""
        alive = {host["host"] for host in self.daemon.json("/hosts") if host["alive"]}
        running = [server for server in self.hosts.values() if server.address in alive]
        written = max(server.lsn() for server in running)
        wait_until("replay", lambda: all(server.lsn() >= written for server in running))

    def _run(self, name: str, commands: str) -> None:
        text = commands.replace("http://127.0.0.1:8000", self.daemon.url)
        text = text.replace("/etc/pg-status/pg-status.env", str(self._env_file))
        text = text.replace("/backup/base", str(self._backup))
        text = re.sub(r"\bpg[1-4]\b", lambda found: self.hosts[found[0]].address, text)
        server = self.hosts.get(name)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            env=self._environment(server), user=_account(server), cwd="/",
            input="new-secret\n" * 2 if r"\password" in text else "",
            capture_output=True, text=True, check=False, start_new_session=True,
        )  # fmt: skip
        output = f"{done.stdout}{done.stderr}{self._log(server)}"
        assert done.returncode == 0, f"{name}: {text}{output}"

    def stop(self) -> None:
        for server in self.hosts.values():
            subprocess.run(
                ["pg_ctl", "stop", "-m", "immediate"],
                env=self._environment(server), user=_account(server), cwd="/",
                capture_output=True, check=False,
            )  # fmt: skip

    def _environment(self, server: Server | None) -> dict[str, str]:
        port = str(next(iter(self.hosts.values())).port)
        common = {"PATH": self._path, "PGPORT": port, "LC_ALL": "C", "PGUSER": "postgres"}
        if server is None:
            return {**common, "PG_STATUS_URL": self.daemon.url}
        return {
            **common, "PGDATA": str(server.data), "PGHOST": server.address,
            "ADDRESS": server.address,
        }  # fmt: skip

    def _program(self, name: str, text: str) -> None:
        path = self._programs / name
        path.write_text(text)
        path.chmod(0o755)

    @staticmethod
    def _log(server: Server | None) -> str:
        log = server and server.data / "startup.log"
        return log.read_text()[-2000:] if log and log.exists() else ""


def _account(server: Server | None) -> int | None:
    is_other = server is not None and os.geteuid() == 0
    return pwd.getpwnam("nobody").pw_uid if is_other else None


@pytest.fixture
def machines(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, templates: Templates, tmp_path: Path
) -> Iterator[Machines]:
    cluster = make_cluster(replicas=3)
    for server in cluster.servers:
        access = server.data / "pg_hba.conf"
        access.write_text(_ACCESS + access.read_text())
        server.sql("SELECT pg_reload_conf()")
    cluster.primary.sql("CREATE ROLE replicator LOGIN REPLICATION")
    cluster.primary.sql("CREATE ROLE monitor LOGIN PASSWORD 'secret' IN ROLE pg_monitor")
    spare = cluster.servers[-1]
    spare.stop()
    subprocess.run(["find", spare.data, "-mindepth", "1", "-delete"], check=True)
    env_file = tmp_path / "pg-status.env"
    hosts = ",".join(server.address for server in cluster.servers[:-1])
    env_file.write_text(
        f"pg_status__hosts={hosts}\npg_status__pg_port={cluster.primary.port}\n"
        "pg_status__pg_user=monitor\npg_status__pg_password=secret\n"
    )
    bindir, _ = templates.of(POSTGRES[-1])
    machines = Machines(cluster, bindir, make_daemon(env_file=env_file), env_file)
    yield machines
    machines.stop()


def test_the_procedures(machines: Machines) -> None:
    daemon, hosts = machines.daemon, machines.hosts

    def is_in_sync(master: str, *replicas: str) -> None:
        def expected() -> bool:
            states = {entry["host"]: entry for entry in daemon.json("/hosts")}
            names = {name: states.get(hosts[name].address) for name in (master, *replicas)}
            return (
                len(states) == len(names)
                and all(state and state["in_sync"] for state in names.values())
                and daemon.text("/master") == hosts[master].address
            )

        wait_until(lambda: f"{master} {replicas} {daemon.text('/hosts')}\n{daemon.log}", expected)

    is_in_sync("pg1", "pg2", "pg3")
    machines.run("Planned switchover")
    is_in_sync("pg2", "pg1", "pg3")
    machines.run("Adding a host")
    is_in_sync("pg2", "pg1", "pg3", "pg4")
    machines.run("Removing a host")
    is_in_sync("pg2", "pg1", "pg3")
    machines.run("Replacing a host")
    is_in_sync("pg2", "pg1", "pg3")
    machines.run("Changing the monitoring password")
    is_in_sync("pg2", "pg1", "pg3")
    machines.back_up("pg2")
    machines.run("Restoring from a backup")
    machines.run("Replacing a host", pg1="pg2", pg2="pg1")
    machines.run("Replacing a host", pg1="pg3", pg2="pg1")
    is_in_sync("pg1", "pg2", "pg3")
    machines.run("Maintenance of pg-status")
