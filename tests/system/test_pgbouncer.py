"""A host may be a PgBouncer: the checks need nothing that it does not let through."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgstatus.demo.cluster import PASSWORD, Cluster
from pgstatus.demo.network import Network
from tests.conftest import DaemonFactory
from tests.support.waiting import wait_until

PGBOUNCER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"

pytestmark = pytest.mark.skipif(
    not Path(PGBOUNCER).exists(), reason="pgbouncer is not installed (Debian: pgbouncer)"
)


@pytest.fixture
def bouncers(cluster: Cluster, network: Network, tmp_path: Path) -> Iterator[list[str]]:
    """A PgBouncer with transaction pooling before each server; their addresses."""
    processes, addresses = [], []
    for number, server in enumerate(cluster.servers):
        address = network.address(240 + number)
        users = tmp_path / "users.txt"
        users.write_text(f'"postgres" "{PASSWORD}"\n')
        config = tmp_path / f"pgbouncer{number}.ini"
        config.write_text(
            f"[databases]\npostgres = host={server.address} port={server.port}\n"
            f"[pgbouncer]\nlisten_addr = {address}\nlisten_port = 6432\nunix_socket_dir =\n"
            f"auth_type = plain\nauth_file = {users}\npool_mode = transaction\n"
        )
        for path in (tmp_path, config, users):
            path.chmod(0o755)
        with (tmp_path / f"pgbouncer{number}.log").open("wb") as log:
            processes.append(subprocess.Popen([PGBOUNCER, "-u", "nobody", config], stderr=log))
        addresses.append(address)
    yield addresses
    for process in processes:
        process.terminate()
        process.wait(10)


def test_hosts_behind_pgbouncer(
    cluster: Cluster, make_daemon: DaemonFactory, bouncers: list[str], tmp_path: Path
) -> None:
    daemon = make_daemon(hosts=",".join(bouncers), pg_port=6432)
    try:
        wait_until("the master", lambda: daemon.text("/master") == bouncers[0])
        wait_until("replicas in sync", lambda: daemon.text("/sync_by_time") in bouncers[1:])
    except AssertionError as error:
        error.add_note(daemon.log + (tmp_path / "pgbouncer0.log").read_text())
        raise
    assert all(daemon.host(address)["error"] is None for address in bouncers)
