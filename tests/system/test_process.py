"""The process: how it starts, stops, survives and refuses."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from pgstatus.demo.binaries import children_of
from pgstatus.demo.cluster import Cluster
from tests.conftest import DaemonFactory, Daemons
from tests.support.daemon import Daemon
from tests.support.defects import with_defect
from tests.support.running import answers
from tests.support.waiting import wait_until


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_within_two_seconds_with_connections_open(
    cluster: Cluster, make_daemon: DaemonFactory, how: signal.Signals
) -> None:
    daemon = make_daemon(cluster)
    with socket.create_connection((daemon.address, daemon.port)) as idle:
        idle.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        assert daemon.stop(how) == 0
        assert time.monotonic() - began < 2


def test_clients_that_wait_to_be_accepted_are_answered_before_it_stops(
    cluster: Cluster, make_daemon: DaemonFactory
) -> None:
    """They have established a connection and sent a request; a reset would be an error for them."""
    daemon = make_daemon(cluster)
    address = daemon.address, daemon.port
    os.kill(daemon.pid, signal.SIGSTOP)
    with ExitStack() as connections:
        clients = [
            connections.enter_context(socket.create_connection(address, 10)) for _ in range(300)
        ]
        for client in clients:
            client.sendall(b"GET /master HTTP/1.1\r\nHost: x\r\n\r\n")
        os.kill(daemon.pid, signal.SIGTERM)
        os.kill(daemon.pid, signal.SIGCONT)
        responses = [client.makefile("rb").read() for client in clients]
    assert {response[:12] for response in responses} == {b"HTTP/1.1 200"}
    assert daemon.process.wait(5) == 0


def test_what_is_no_http_is_told_so_as_json_and_leaves_the_log_alone(
    cluster: Cluster, make_daemon: DaemonFactory
) -> None:
    daemon = make_daemon(cluster)
    for garbage in (b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n"):
        with socket.create_connection((daemon.address, daemon.port), 5) as client:
            client.sendall(garbage)
            head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"Content-Type: application/json\r\nCache-Control: no-store" in head
        assert "nvalid" in json.loads(body)["error_text"]
    daemon.stop()
    assert "nvalid" not in daemon.log


def test_it_starts_again_after_it_was_killed(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    daemon = make_daemon(cluster)
    daemon.kill_and_relaunch()
    assert daemon.text("/master") == cluster.primary.address


def test_it_is_one_process_whatever_the_environment_contains(
    cluster: Cluster, daemons: Daemons
) -> None:
    daemon = daemons.prepare(cluster)
    daemon.environment |= {"WEB_CONCURRENCY": "4", "GUNICORN_CMD_ARGS": "--workers 3"}
    with daemon:
        for signum in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2):
            daemon.process.send_signal(signum)
        assert daemon.text("/master") == cluster.primary.address
        assert children_of(daemon.pid) == []


def test_a_monitoring_thread_that_fails_is_restarted(
    cluster: Cluster, daemons: Daemons, tmp_path: Path
) -> None:
    daemon = daemons.prepare(cluster)
    trigger = tmp_path / "defect"
    daemon.command = with_defect(
        'pathlib.Path(sys.argv[1]).unlink(); raise ZeroDivisionError("a defect")', trigger
    )
    with daemon:
        pid = daemon.pid
        trigger.touch()
        wait_until("it is logged", lambda: "the monitoring was restarted" in daemon.log)
        assert "ZeroDivisionError: a defect" in daemon.log
        wait_until("all hosts were checked again", lambda: answers(daemon.client, "/ready"))
        assert daemon.text("/master") == cluster.primary.address
        assert daemon.process.poll() is None
        assert daemon.pid == pid


def test_three_failures_within_a_minute_end_the_process_with_status_70(
    cluster: Cluster, daemons: Daemons, tmp_path: Path
) -> None:
    daemon = daemons.prepare(cluster)
    trigger = tmp_path / "defect"
    daemon.command = with_defect('raise ZeroDivisionError("a defect")', trigger)
    with daemon.launched():
        wait_until("it is ready", daemon.is_ready)
        trigger.touch()
        assert daemon.process.wait(10) == os.EX_SOFTWARE == 70
    assert daemon.log.count("ZeroDivisionError: a defect") >= 3
    assert "has failed 3 times" in daemon.log


def test_a_taken_port_is_one_sentence(daemon: Daemon, daemons: Daemons) -> None:
    second = daemons.prepare(hosts="127.0.0.1")
    second.environment["pg_status__http_port"] = str(daemon.port)
    second.launch()
    assert second.process.wait(10) == 1
    complaints = [line for line in second.log.splitlines() if "INFO" not in line]
    assert complaints == [
        (
            f"pg-status: error: cannot listen on http://{daemon.address}:{daemon.port}: "
            "Address already in use"
        )
    ]


def test_bad_configuration_is_told_whole_with_status_78(daemons: Daemons) -> None:
    daemon = daemons.prepare(hosts="postgresql://u:s3cret@a:x/d", sleep_ms="soon", log_level="loud")
    daemon.launch()
    assert daemon.process.wait(10) == os.EX_CONFIG == 78
    lines = daemon.log.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("pg-status: error: pg_status__") for line in lines)
    assert "s3cret" not in daemon.log


def test_without_hosts_it_says_what_to_set(daemons: Daemons) -> None:
    daemon = daemons.prepare()
    daemon.launch()
    assert daemon.process.wait(10) == 78
    assert "pg_status__hosts is not set" in daemon.log


def test_json_logs(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    daemon = make_daemon(cluster, log_format="json", log_level="debug")
    daemon.stop()
    lines = [json.loads(line) for line in daemon.log.splitlines()]
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines
    )
    primary = f"{cluster.primary.address}:{cluster.primary.port}"
    assert f"{primary} is now the master (timeline 1)" in [line["message"] for line in lines]
    assert {"debug", "info"} <= {line["level"] for line in lines}
    assert "password" not in daemon.log


@pytest.mark.parametrize("address", ["::1", "*"])
def test_listening_on_ipv6_and_everywhere(cluster: Cluster, daemons: Daemons, address: str) -> None:
    daemon = daemons.prepare(cluster)
    # Other test runs on this machine listen on addresses of their own, which "*" takes, too.
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as free:
        port = free.getsockname()[1]
    daemon.environment |= {
        "pg_status__http_listen_address": address,
        "pg_status__http_port": str(port),
    }
    names = ["[::1]", "127.0.0.1"] if address == "*" else ["[::1]"]
    with daemon.launched():
        for name in names:
            url = f"http://{name}:{port}/live"
            wait_until(f"{url} answers", lambda url=url: answers(daemon.client, url))  # type: ignore[misc]
        assert daemon.stop() == 0


def test_a_blocked_stderr_does_not_block_the_process(cluster: Cluster, daemons: Daemons) -> None:
    daemon = daemons.prepare(cluster, log_level="debug", sleep_ms=10)
    checked: set[str] = set()

    def has_checked() -> bool:
        checked.add(daemon.host(cluster.primary.address)["checked_at"])
        return len(checked) > 5

    with _unread(daemon):
        # Each writes a line; the first of them may have been on its way.
        wait_until("the hosts are still checked", has_checked)
        assert daemon.text("/master") == cluster.primary.address
        daemon.process.send_signal(signal.SIGHUP)
        daemon.process.terminate()
        assert daemon.process.wait(10) == 0


@contextmanager
def _unread(daemon: Daemon) -> Iterator[None]:
    """It runs, and its stderr is a full pipe that is not read."""
    reader, writer = os.pipe()
    with ExitStack() as undo:
        undo.callback(os.close, reader)
        undo.callback(os.close, writer)
        undo.enter_context(daemon.with_stderr(writer))
        _fill(writer)
        yield


def _fill(pipe: int) -> None:
    """Write until not a byte fits any more."""
    # Opened anew: the daemon would share the flag.
    writer = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"\n")
    os.close(writer)


def test_headers_of_a_client_change_no_path(daemon: Daemon) -> None:
    for header in ("Script-Name", "X-Forwarded-Prefix", "SCRIPT_NAME"):
        answer = daemon.get("/live", **{header: "/x"})
        assert (answer.status_code, answer.text) == (200, "OK")


def test_the_version_is_told_without_any_configuration() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pgstatus", "--version"], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)
