"""Listening on a socket in the file system."""

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgstatus.cli.remote import Instance
from pgstatus.demo.cluster import Cluster
from pgstatus.errors import UnreachableError
from tests.conftest import Daemons
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "http.sock"


@pytest.fixture
def daemon(cluster: Cluster, daemons: Daemons, path: Path) -> Iterator[Daemon]:
    daemon = daemons.prepare(cluster)
    daemon.environment["pg_status__http_listen_address"] = f"unix:{path}"
    yield daemon
    daemon.process.kill()
    daemon.process.wait()


def start(daemon: Daemon, path: Path) -> Instance:
    daemon.launch()
    instance = Instance(f"unix:{path}")
    wait_until("it is ready", lambda: is_ready(daemon, instance))
    return instance


def is_ready(daemon: Daemon, instance: Instance) -> bool:
    assert daemon.process.poll() is None, daemon.log
    try:
        return instance.get("/ready").is_ok
    except UnreachableError:
        return False


def test_it_answers_and_leaves_nothing_behind(daemon: Daemon, path: Path, cluster: Cluster) -> None:
    instance = start(daemon, path)
    for _ in range(3):
        assert instance.get("/master").body == cluster.primary.address
        assert instance.get("/nothing").status == 404
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    for arguments in (["health"], ["hosts", "--url", f"unix:{path}"]):
        done = subprocess.run(
            [sys.executable, "-m", "pgstatus", *arguments], env=daemon.environment, check=False
        )
        assert done.returncode == 0
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 8
    assert not path.exists()


def test_its_mode_is_the_one_asked_for(daemon: Daemon, path: Path) -> None:
    daemon.environment["pg_status__http_socket_mode"] = "606"
    start(daemon, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o606


def test_what_a_killed_process_left_is_not_in_the_way(daemon: Daemon, path: Path) -> None:
    start(daemon, path)
    daemon.process.kill()
    daemon.process.wait()
    assert path.exists()
    assert start(daemon, path).get("/live").body == "OK"


def complaint(daemon: Daemon) -> str:
    daemon.launch()
    assert daemon.process.wait(60) == 1
    return daemon.log.splitlines()[-1]


def test_places_that_are_taken(daemon: Daemon, path: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert complaint(daemon).endswith("another process is listening there")
    path.unlink()
    path.write_text("important")
    assert complaint(daemon).endswith("a file that is not a socket exists there")
    assert path.read_text() == "important"
    nowhere = tmp_path / "no" / "such"
    daemon.environment["pg_status__http_listen_address"] = f"unix:{nowhere}"
    assert complaint(daemon) == (
        f"pg-status: error: cannot listen on unix:{nowhere}: No such file or directory"
    )


@pytest.mark.parametrize("address", ["unix:", "unix:relative", "unix:/" + "x" * 107])
def test_a_path_that_cannot_be_one_is_told(daemon: Daemon, address: str) -> None:
    daemon.environment["pg_status__http_listen_address"] = address
    daemon.launch()
    assert daemon.process.wait(60) == os.EX_CONFIG
    assert "expected unix: and an absolute path of at most 107 bytes" in daemon.log
