"""A real HAProxy with the packaged configuration, in front of a cluster with a real pg-status.

The file is used with the changes that an administrator makes: `HAProxy._edited`. Tests import the
fixture ``haproxies``; its name is ``make_haproxy``.
"""

import csv
import os
import re
import shutil
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from pgstatus.demo.cluster import PASSWORD, Cluster
from pgstatus.demo.network import free_port
from tests.support.daemon import Daemon
from tests.support.running import Program
from tests.support.waiting import wait_until

PROGRAM = shutil.which("haproxy") or "/usr/sbin/haproxy"
CONFIGURATION = Path(__file__).parents[2] / "packaging/haproxy/haproxy.cfg"

Server = tuple[str, str]
"""The section, and the name of the server in it."""


class HAProxy(Program):
    """HAProxy with its workers.

    It listens on the address of pg-status. ``changes`` are further replacements in the file.
    """

    def __init__(
        self, directory: Path, cluster: Cluster, daemon: Daemon, changes: Mapping[str, str] = {}
    ) -> None:
        self._address = daemon.address
        self.write_port = free_port([self._address], 5000)
        self.read_port = free_port([self._address], self.write_port + 1)
        self._directory = directory
        self._socket = directory / "admin.sock"
        configuration = directory / "haproxy.cfg"
        configuration.write_text(self._edited(cluster, daemon, changes))
        super().__init__([PROGRAM, "-W", "-f", configuration], directory / "haproxy.log")

    def _edited(self, cluster: Cluster, daemon: Daemon, changes: Mapping[str, str]) -> str:
        """The packaged file with other addresses and ports."""
        checks_port = free_port([self._address], 8500)
        replacements = {
            **changes,
            **{f"pg{number}": s.address for number, s in enumerate(cluster.servers, 1)},
            ":5432": f":{cluster.primary.port}",
            "bind :5000": f"bind {self._address}:{self.write_port}",
            "bind :5001": f"bind {self._address}:{self.read_port}",
            "addr 127.0.0.1 port 8009": f"addr {self._address} port {checks_port}",
            "bind 127.0.0.1:8009": f"bind {self._address}:{checks_port}",
            "server local 127.0.0.1:8000": f"server local {daemon.address}:{daemon.port}",
            "/run/haproxy": str(self._directory),
        }
        text = CONFIGURATION.read_text()
        for old, new in replacements.items():
            assert old in text, f"{CONFIGURATION} has no {old!r}"
            text = text.replace(old, new)
        if os.geteuid() != 0:  # requires root
            text = re.sub(r"^    (user|group|chroot) .*\n", "", text, flags=re.MULTILINE)
        return text

    def answers(self) -> bool:
        try:
            return bool(self.execute("show info"))
        except OSError:
            return False

    def execute(self, command: str) -> str:
        """Send a command to the stats socket; return the response."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            connection.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def statistics(self) -> dict[Server, dict[str, str]]:
        """``show stat``, by section and server (or FRONTEND, BACKEND)."""
        lines = self.execute("show stat").removeprefix("# ").splitlines()
        return {(row["pxname"], row["svname"]): row for row in csv.DictReader(lines)}

    def checked(self) -> dict[Server, dict[str, str]]:
        """The statistics of the servers whose state is determined by pg-status."""
        return {
            (section, name): row
            for (section, name), row in self.statistics().items()
            if section in {"write", "read"} and row["check_status"]
        }

    def up(self, section: str) -> set[str]:
        """The servers of a section that are up, without the backup servers."""
        return {
            name
            for (of, name), row in self.checked().items()
            if of == section and row["status"].startswith("UP")
        }

    def pg_status_is_up(self) -> bool:
        """The state of the first pg-status in HAProxy."""
        return self.statistics()["pg_status", "local"]["status"].startswith("UP")

    def wait_for(self, section: str, *names: str) -> None:
        """Wait until exactly these servers are up."""
        wait_until(
            lambda: f"{section}: {names}\n{self.log}", lambda: self.up(section) == set(names)
        )

    def settle(self, cluster: Cluster) -> None:
        """Wait until the master is up for writes, all replicas for reads, and no transition is
        pending.
        """
        self.wait_for("write", cluster.primary.address)
        self.wait_for("read", *(replica.address for replica in cluster.replicas))
        wait_until("no transition is pending", self._is_quiet)

    def _is_quiet(self) -> bool:
        return all(row["status"] in {"UP", "DOWN"} for row in self.checked().values())

    def wait_for_checks(self, number: int) -> None:
        """Wait until this number of further checks has been answered."""

        def answered() -> int:
            return int(self.statistics()["pg_status", "FRONTEND"]["req_tot"])

        before = answered()
        wait_until(f"{number} checks", lambda: answered() >= before + number)

    def reload(self) -> None:
        """Reload as the unit with the drop-in of docs/haproxy.md."""
        (self._directory / "server-state").write_text(self.execute("show servers state"))
        before = self._pid()
        self.process.send_signal(signal.SIGUSR2)
        wait_until("a new worker", lambda: self.is_ready() and self._pid() != before)

    def _pid(self) -> str:
        return str(re.findall(r"^Pid: (\d+)$", self.execute("show info"), re.MULTILINE)[0])

    def write(self) -> psycopg.Connection:
        """A session through the write port."""
        return psycopg.connect(self.write_conninfo, autocommit=True)

    def read(self) -> psycopg.Connection:
        """A session through the read port."""
        return psycopg.connect(self._conninfo(self.read_port), autocommit=True)

    def writes_reach(self, address: str) -> bool:
        """A new session through the write port is on this host and can write."""
        try:
            with self.write() as session:
                session.execute("CREATE TABLE IF NOT EXISTS written (at timestamptz)")
                session.execute("INSERT INTO written VALUES (now())")
                return host_of(session) == address
        except psycopg.Error:
            return False

    def reads_reach(self, *addresses: str) -> bool:
        """Ten new sessions through the read port are on these hosts, and on all of them."""
        with ExitStack() as open_sessions:
            sessions = [open_sessions.enter_context(self.read()) for _ in range(10)]
            return {host_of(session) for session in sessions} == set(addresses)

    @property
    def write_conninfo(self) -> str:
        return self._conninfo(self.write_port)

    def _conninfo(self, port: int) -> str:
        return (
            f"host={self._address} port={port} user=postgres password={PASSWORD} "
            "dbname=postgres connect_timeout=5"
        )


def host_of(session: psycopg.Connection) -> str:
    """The address of the server of a session."""
    row = session.execute("SELECT host(inet_server_addr())").fetchone()
    assert row is not None
    return str(row[0])


def is_open(session: psycopg.Connection) -> bool:
    """The session is usable."""
    try:
        session.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


HAProxyFactory = Callable[..., HAProxy]


@pytest.fixture(name="make_haproxy")
def haproxies(tmp_path: Path) -> Iterator[HAProxyFactory]:
    """``make_haproxy(cluster, daemon)``: start HAProxy and wait until all roles are known."""
    with ExitStack() as undo:

        def make(cluster: Cluster, daemon: Daemon, changes: Mapping[str, str] = {}) -> HAProxy:
            haproxy = undo.enter_context(HAProxy(tmp_path, cluster, daemon, changes))
            haproxy.settle(cluster)
            return haproxy

        yield make
