"""Notifications for systemd, and the commands for administrators and health checks."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port
from tests.conftest import DaemonFactory
from tests.support.daemon import Daemon
from tests.support.manager import Manager
from tests.support.waiting import wait_until


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.socket.close()


@pytest.fixture
def watched(
    manager: Manager, cluster: Cluster, tmp_path: Path, network: Network
) -> Iterator[Daemon]:
    """A daemon started as systemd starts it, with a pause between checks longer than any test."""
    address = network.address(1)
    (tmp_path / "env").write_text(
        f"pg_status__hosts={','.join(server.address for server in cluster.servers)}\n"
        f"pg_status__pg_port={cluster.primary.port}\npg_status__sleep_ms=60000\n"
    )
    daemon = Daemon(
        tmp_path / "log",
        {"env_file": tmp_path / "env"},
        address=address,
        port=free_port([address], 8000),
        environment={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "10000000"},
    )
    with daemon:
        yield daemon


def test_ready_is_sent_after_the_first_round(
    manager: Manager, watched: Daemon, cluster: Cluster
) -> None:
    lines = manager.until("READY=1")
    assert lines.count("READY=1") == 1
    assert "STATUS=first round of checks" in lines
    master = f"{cluster.primary.address}:{cluster.primary.port}"
    assert manager.until("STATUS=")[-1] == f"STATUS=master is {master}, 3 of 3 hosts alive"


def test_ready_is_sent_without_any_cluster_and_without_any_watcher(
    manager: Manager, tmp_path: Path, network: Network
) -> None:
    """Otherwise the service manager would end the process, and files are added later."""
    address = network.address(1)
    (tmp_path / "clusters.d").mkdir()
    for variables in (
        {"clusters_dir": tmp_path / "clusters.d"},
        {"upstreams": f"http://{address}:1"},
    ):
        port = free_port([address], 8000)
        environment = {"NOTIFY_SOCKET": manager.address}
        daemon = Daemon(
            tmp_path / "log", variables, address=address, port=port, environment=environment
        )
        with daemon.launched():
            manager.socket.settimeout(30)
            manager.until("READY=1")
            assert daemon.get("/ready").status_code == 503


def test_watchdog_messages_do_not_depend_on_the_pause_between_checks(
    manager: Manager, watched: Daemon
) -> None:
    manager.until("READY=1")
    manager.until("WATCHDOG=1")
    for _ in range(3):
        manager.until("WATCHDOG=1")


def test_a_stopped_process_sends_no_watchdog_messages(manager: Manager, watched: Daemon) -> None:
    manager.until("READY=1")
    os.kill(watched.pid, signal.SIGSTOP)
    try:
        manager.socket.settimeout(3)
        with pytest.raises(TimeoutError):
            manager.until("never")
    finally:
        os.kill(watched.pid, signal.SIGCONT)
    manager.socket.settimeout(10)
    manager.until("WATCHDOG=1")


def test_the_start_and_the_end_of_a_reload_are_announced(manager: Manager, watched: Daemon) -> None:
    manager.until("READY=1")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    watched.process.send_signal(signal.SIGHUP)
    moment = int(manager.until("MONOTONIC_USEC=")[-1].partition("=")[2])
    assert before < moment < before + 10_000_000
    manager.until("READY=1")


def test_a_reload_that_is_requested_at_the_end_of_another_is_announced(
    manager: Manager, watched: Daemon, tmp_path: Path
) -> None:
    """systemd sends the signal of the next reload when it receives READY=1."""
    manager.until("READY=1")
    (tmp_path / "env").write_text("invalid\n")
    for _ in range(3):
        watched.process.send_signal(signal.SIGHUP)
        assert "RELOADING=1" in manager.until("READY=1")


def _command(*arguments: str, **variables: object) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if not k.lower().startswith("pg_status_")}
    return subprocess.run(
        [sys.executable, "-m", "pgstatus", *arguments],
        env=environment | {f"pg_status__{k}": str(v) for k, v in variables.items()},
        capture_output=True,
        text=True,
        check=False,
    )


def test_check_reports_mistakes() -> None:
    done = _command("check", "--config-only", hosts="a", slep_ms=5)
    assert (done.returncode, done.stdout) == (0, "OK: the configuration can be used\n")
    assert "did you mean pg_status__sleep_ms?" in done.stderr
    done = _command("check", sleep_ms="soon")
    assert done.returncode == os.EX_CONFIG
    assert "pg_status__sleep_ms='soon'" in done.stderr
    assert "pg_status__hosts is not set" in done.stderr


def test_health_of_the_instance_with_this_configuration(
    make_daemon: DaemonFactory, network: Network
) -> None:
    with socket.create_server((network.address(2), 0)) as silent:
        address, port = silent.getsockname()
        daemon = make_daemon(hosts=f"{address}:{port}", query_timeout_ms=200, max_fails=1)
        where = {
            "hosts": "x",
            "http_listen_address": daemon.client.base_url.host,
            "http_port": daemon.client.base_url.port,
        }
        assert _command("health", "/live", **where).returncode == 0
        wait_until("unhealthy", lambda: daemon.get("/health").status_code == 503)
        done = _command("health", **where)
        assert done.returncode == 1
        assert "neither a master nor a live replica is known" in done.stderr
        done = _command("health", **where | {"http_port": port, "http_listen_address": address})
        assert done.returncode == 1
        assert "no response from" in done.stderr
