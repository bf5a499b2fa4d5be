"""A host may be a PgBouncer: the checks need nothing that it does not let through."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pgstatus.demo.cluster import PASSWORD, Cluster
from pgstatus.demo.network import Network
from tests.conftest import ClusterFactory, DaemonFactory
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

PGBOUNCER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"

pytestmark = pytest.mark.skipif(
    not Path(PGBOUNCER).exists(), reason="pgbouncer is not installed (Debian: pgbouncer)"
)


@contextmanager
def bouncers_before(cluster: Cluster, network: Network, directory: Path) -> Iterator[list[str]]:
    """A PgBouncer with transaction pooling before each server; their addresses."""
    processes, addresses = [], []
    for number, server in enumerate(cluster.servers):
        address = network.address(240 + number)
        users = directory / "users.txt"
        users.write_text(f'"postgres" "{PASSWORD}"\n')
        config = directory / f"pgbouncer{number}.ini"
        config.write_text(
            f"[databases]\npostgres = host={server.address} port={server.port}\n"
            f"[pgbouncer]\nlisten_addr = {address}\nlisten_port = 6432\nunix_socket_dir =\n"
            f"auth_type = plain\nauth_file = {users}\npool_mode = transaction\n"
        )
        for path in (directory, config, users):
            path.chmod(0o755)
        # PgBouncer does not run as root either.
        account = ["-u", "nobody"] if os.geteuid() == 0 else []
        with (directory / f"pgbouncer{number}.log").open("wb") as log:
            processes.append(subprocess.Popen([PGBOUNCER, *account, config], stderr=log))
        addresses.append(address)
    try:
        yield addresses
    finally:
        for process in processes:
            process.terminate()
            process.wait(10)


def test_hosts_behind_pgbouncer(
    cluster: Cluster, make_daemon: DaemonFactory, network: Network, tmp_path: Path
) -> None:
    with bouncers_before(cluster, network, tmp_path) as bouncers:
        daemon = make_daemon(hosts=",".join(bouncers), pg_port=6432)
        try:
            wait_until("the master", lambda: daemon.text("/master") == bouncers[0])
            wait_until("replicas in sync", lambda: daemon.text("/sync_by_time") in bouncers[1:])
        except AssertionError as error:
            error.add_note(daemon.log + (tmp_path / "pgbouncer0.log").read_text())
            raise
        assert all(daemon.host(address)["error"] is None for address in bouncers)


def test_a_pgbouncer_whose_server_is_gone_delays_nobody(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, network: Network, tmp_path: Path
) -> None:
    """It accepts the login, and lets the query wait for a server for two minutes."""
    cluster = make_cluster()
    with bouncers_before(cluster, network, tmp_path) as bouncers:
        daemon = make_daemon(hosts=",".join(bouncers), pg_port=6432, query_timeout_ms=400)
        wait_until("replicas in sync", lambda: daemon.text("/sync_by_time") in bouncers[1:])
        cluster.replicas[0].crash()
        error = wait_until("it is told", lambda: daemon.host(bouncers[1])["error"])
        wait_until("it is dead", lambda: not daemon.host(bouncers[1])["alive"])
        assert error
        for other in (bouncers[0], bouncers[2]):
            before = daemon.host(other)["checked_at"]
            wait_until("another check", lambda o=other, b=before: _is_later(daemon, o, b))  # type: ignore[misc]
            assert daemon.host(other)["error"] is None
        assert daemon.text("/master") == bouncers[0]


def _is_later(daemon: Daemon, address: str, before: str) -> bool:
    return bool(daemon.host(address)["checked_at"] > before)
