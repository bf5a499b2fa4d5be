"""A primary and its streaming replicas: real PostgreSQL servers, each with its own address."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from pgstatus.demo.binaries import Binaries, children_of
from pgstatus.errors import StartError

PASSWORD = "postgres"  # noqa: S105  # the default of pg-status; only reachable on loopback
_PATIENCE = 30.0

# The cluster is temporary and needs no durability; with the short interval a replica follows a new
# primary immediately instead of after five seconds.
_CONFIGURATION = """
port = {port}
listen_addresses = '{address}'
unix_socket_directories = ''
fsync = off
shared_buffers = 16MB
max_connections = 60
wal_level = replica
wal_keep_size = 256MB
wal_log_hints = on
wal_retrieve_retry_interval = 100ms
hot_standby = on
hot_standby_feedback = on
log_line_prefix = '%m [%p] '
"""
_ACCESS = """
host all         all 127.0.0.0/8 scram-sha-256
host replication all 127.0.0.0/8 scram-sha-256
"""


class Server:
    """One PostgreSQL server."""

    def __init__(self, binaries: Binaries, directory: Path, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self.data = directory
        self._binaries = binaries
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def conninfo(self) -> str:
        return (
            f"host={self.address} port={self.port} user=postgres password={PASSWORD} "
            "dbname=postgres connect_timeout=5"
        )

    @property
    def pid(self) -> int:
        """The process ID of the postmaster."""
        if self._process is None:
            raise StartError(f"{self.address} was not started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def initialize(self) -> None:
        """Create a new cluster."""
        password_file = self.data.with_suffix(".password")
        password_file.write_text(PASSWORD)
        password_file.chmod(0o644)
        self._binaries.run(
            "initdb", "-D", self.data, "-U", "postgres", "-A", "scram-sha-256", "--no-sync",
            "-E", "UTF8", "--locale=C", "--pwfile", password_file,
        )  # fmt: skip
        self._append("pg_hba.conf", _ACCESS)
        self._configure()
        # The control file then contains these settings, which a copy compares with its own.
        self.start()
        self.stop()

    def copy(self, data: Path) -> None:
        """Use a copy of the data directory of a stopped server."""
        # As root, `cp` preserves the owner.
        subprocess.run(["cp", "-a", "--", data, self.data], check=True)  # noqa: S607
        self._configure()

    def become_replica(self, primary: "Server") -> None:
        """Stream from ``primary`` after the next start; the data is a copy of its data."""
        (self.data / "standby.signal").touch()
        self._set_upstream(primary)

    def clone(self, primary: "Server") -> None:
        """Become a streaming replica of ``primary``; the previous data is removed."""
        shutil.rmtree(self.data, ignore_errors=True)  # an empty mount point remains
        self._binaries.run(
            "pg_basebackup", "-D", self.data, "-R", "--no-sync", "-c", "fast", "-X", "stream",
            "-d", primary.conninfo,
        )  # fmt: skip
        self._configure()

    def backup(self, directory: Path) -> None:
        """Copy the data of the running server."""
        self._binaries.run(
            "pg_basebackup", "-D", directory, "--no-sync", "-c", "fast", "-X", "stream",
            "-d", self.conninfo,
        )  # fmt: skip

    def restore(self, directory: Path) -> None:
        """Replace the data of the stopped server by a copy, which is moved."""
        shutil.rmtree(self.data)
        directory.rename(self.data)

    def start(self) -> None:
        """Start and wait until it answers queries."""
        self.launch()
        self.wait_until_answering()

    def launch(self) -> None:
        """Start without waiting."""
        with self.data.with_suffix(".log").open("ab") as log:
            self._process = self._binaries.start("postgres", "-D", self.data, log=log)

    def wait_until_answering(self) -> None:
        self.wait_for(self._answers, "does not answer")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop and wait: SIGTERM smart, SIGINT fast, SIGQUIT immediate, as in a crash."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def crash(self) -> None:
        """Stop without a shutdown."""
        self.stop(signal.SIGQUIT)

    def freeze(self) -> None:
        """Suspend all processes: connections stay open, and there is no response."""
        for pid in (self.pid, *children_of(self.pid)):
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in (*children_of(self.pid), self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def promote(self) -> None:
        """``pg_ctl promote``; returns when the server accepts writes."""
        self._binaries.run("pg_ctl", "promote", "-D", self.data, "-w")

    def follow(self, primary: "Server") -> None:
        """Stream from ``primary``."""
        self._set_upstream(primary)
        self.sql("SELECT pg_reload_conf()")

    def sql(self, query: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """Execute one statement in a new connection; returns its rows."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def lsn(self) -> int:
        """The WAL position in bytes: replayed by a replica, written by a primary."""
        [(lsn,)] = self.sql(
            "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() "
            "ELSE pg_current_wal_lsn() END - '0/0')::bigint"
        )
        return int(lsn)

    def wait_for(self, predicate: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not predicate():
            if time.monotonic() > deadline or (self._process and self._process.poll() is not None):
                log = self.data.with_suffix(".log")
                tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
                raise StartError(f"PostgreSQL on {self.address} {complaint}:\n{tail}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        """This server, not another one that took the address before it."""
        try:
            [(directory,)] = self.sql("SHOW data_directory")
        except psycopg.OperationalError:
            return False
        return Path(directory).resolve() == self.data.resolve()

    def _set_upstream(self, primary: "Server") -> None:
        escaped = primary.conninfo.replace("'", "''")
        self._append("postgresql.auto.conf", f"\nprimary_conninfo = '{escaped}'\n")

    def _configure(self) -> None:
        self._append("postgresql.conf", _CONFIGURATION.format(port=self.port, address=self.address))

    def _append(self, name: str, text: str) -> None:
        with (self.data / name).open("a") as file:
            file.write(text)


class Cluster:
    """``addresses[0]`` is the first primary, the others are its replicas."""

    def __init__(
        self,
        bindir: Path,
        directory: Path,
        addresses: Sequence[str],
        port: int,
        template: Path | None = None,
    ) -> None:
        """``template``: the data directory of an initialized server, which saves time."""
        self._template = template
        binaries = Binaries.prepare(bindir, directory)
        self.servers = tuple(
            Server(binaries, directory / f"data{number}", address, port)
            for number, address in enumerate(addresses)
        )
        self.primary = self.servers[0]

    @property
    def replicas(self) -> tuple[Server, ...]:
        return tuple(server for server in self.servers if server is not self.primary)

    def start(self, stopping: threading.Event | None = None) -> None:
        """Create and start all servers; ``stopping`` ends it before the next server."""
        if self._template is None:
            self.primary.initialize()
        else:
            self.primary.copy(self._template)
        for replica in self.replicas:
            # Faster than `clone`, which needs a running primary.
            replica.copy(self.primary.data)
            replica.become_replica(self.primary)
        for server in self.servers:
            if stopping is not None and stopping.is_set():
                return
            server.launch()
        for server in self.servers:
            server.wait_until_answering()

    def stop(self) -> None:
        for server in self.servers:
            server.crash()

    def promote(self, heir: Server) -> None:
        """Promote ``heir``; the old primary is not changed."""
        heir.promote()
        self.primary = heir

    def fail_over(self) -> Server:
        """Crash the primary and promote the most advanced replica; the others follow it."""
        lost = self.primary
        lost.crash()
        self.promote(max(self.replicas_without(lost), key=Server.lsn))
        for replica in self.replicas_without(lost):
            replica.follow(self.primary)
        return lost

    def rebuild(self, server: Server) -> None:
        """Make a server a replica of the current primary."""
        server.stop()
        server.clone(self.primary)
        server.start()

    def replicas_without(self, lost: Server) -> tuple[Server, ...]:
        return tuple(replica for replica in self.replicas if replica is not lost)
