"""A real HAProxy with the shipped configuration, before a cluster that a real pg-status watches.

The file is used as it is, but for what an administrator changes as well: `HAProxy._edited`.
Tests import the fixture ``haproxies``, which is called ``make_haproxy``.
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
"""The section and the server's name in it."""


class HAProxy(Program):
    """One process, with its workers.

    It listens on pg-status's address. ``changes`` are further replacements in the file.
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
        """The shipped file with other addresses and ports."""
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
        if os.geteuid() != 0:  # only root may become another account
            text = re.sub(r"^    (user|group|chroot) .*\n", "", text, flags=re.MULTILINE)
        return text

    def answers(self) -> bool:
        try:
            return bool(self.say("show info"))
        except OSError:
            return False

    def say(self, words: str) -> str:
        """Say something to the stats socket; its answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            connection.sendall(f"{words}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def statistics(self) -> dict[Server, dict[str, str]]:
        """``show stat``, by section and server (or FRONTEND, BACKEND)."""
        lines = self.say("show stat").removeprefix("# ").splitlines()
        return {(row["pxname"], row["svname"]): row for row in csv.DictReader(lines)}

    def checked(self) -> dict[Server, dict[str, str]]:
        """Of the servers that pg-status is asked about, what the statistics say."""
        return {
            (section, name): row
            for (section, name), row in self.statistics().items()
            if section in {"write", "read"} and row["check_status"]
        }

    def up(self, section: str) -> set[str]:
        """The servers of a section that take new sessions of their own, not as a stopgap."""
        return {
            name
            for (of, name), row in self.checked().items()
            if of == section and row["status"].startswith("UP")
        }

    def pg_status_is_up(self) -> bool:
        """The pg-status that is asked first."""
        return self.statistics()["pg_status", "local"]["status"].startswith("UP")

    def wait_for(self, section: str, *names: str) -> None:
        """Until exactly these are up."""
        wait_until(
            lambda: f"{section}: {names}\n{self.log}", lambda: self.up(section) == set(names)
        )

    def settle(self, cluster: Cluster) -> None:
        """Until the master takes writes and all replicas reads, beyond doubt."""
        self.wait_for("write", cluster.primary.address)
        self.wait_for("read", *(replica.address for replica in cluster.replicas))
        wait_until("no server is about to change", self._is_quiet)

    def _is_quiet(self) -> bool:
        return all(row["status"] in {"UP", "DOWN"} for row in self.checked().values())

    def wait_for_checks(self, number: int) -> None:
        """Until so many more checks have been answered."""

        def answered() -> int:
            return int(self.statistics()["pg_status", "FRONTEND"]["req_tot"])

        before = answered()
        wait_until(f"{number} checks", lambda: answered() >= before + number)

    def reload(self) -> None:
        """As the unit with the drop-in of docs/haproxy.md does it."""
        (self._directory / "server-state").write_text(self.say("show servers state"))
        before = self._pid()
        self.process.send_signal(signal.SIGUSR2)
        wait_until("a new worker", lambda: self.is_ready() and self._pid() != before)

    def _pid(self) -> str:
        return str(re.findall(r"^Pid: (\d+)$", self.say("show info"), re.MULTILINE)[0])

    def write(self) -> psycopg.Connection:
        """A session through the write port."""
        return psycopg.connect(self.write_conninfo, autocommit=True)

    def read(self) -> psycopg.Connection:
        """A session through the read port."""
        return psycopg.connect(self._conninfo(self.read_port), autocommit=True)

    def writes_reach(self, address: str) -> bool:
        """A new session through the write port is on this host, and may write."""
        try:
            with self.write() as session:
                session.execute("CREATE TABLE IF NOT EXISTS written (at timestamptz)")
                session.execute("INSERT INTO written VALUES (now())")
                return host_of(session) == address
        except psycopg.Error:
            return False

    def reads_reach(self, *addresses: str) -> bool:
        """Ten new sessions through the read port are on these hosts, and on each of them."""
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
    """The address of the server that a session has reached."""
    row = session.execute("SELECT host(inet_server_addr())").fetchone()
    assert row is not None
    return str(row[0])


def is_open(session: psycopg.Connection) -> bool:
    """The session still answers."""
    try:
        session.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


HAProxyFactory = Callable[..., HAProxy]


@pytest.fixture(name="make_haproxy")
def haproxies(tmp_path: Path) -> Iterator[HAProxyFactory]:
    """Start HAProxy and wait until it knows who is who: ``make_haproxy(cluster, daemon)``."""
    with ExitStack() as undo:

        def make(cluster: Cluster, daemon: Daemon, changes: Mapping[str, str] = {}) -> HAProxy:
            haproxy = undo.enter_context(HAProxy(tmp_path, cluster, daemon, changes))
            haproxy.settle(cluster)
            return haproxy

        yield make
