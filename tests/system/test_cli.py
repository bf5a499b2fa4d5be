"""The commands for people: what they print, and exit statuses that a script can use."""

import os
import pty
import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import ClusterFactory, DaemonFactory, Daemons
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

Done = subprocess.CompletedProcess[str]


def run(daemon: Daemon, *arguments: str, **variables: object) -> Done:
    environment = {f"pg_status__{name}": str(value) for name, value in variables.items()}
    return subprocess.run(
        [sys.executable, "-m", "pgstatus", *arguments],
        env={**daemon.environment, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_table_of_hosts(daemon: Daemon, cluster: Cluster) -> None:
    done = run(daemon, "hosts")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in done.stdout.splitlines()[3:-1]]
    port = cluster.primary.port
    assert [row[:3] for row in rows] == [
        [f"{cluster.primary.address}:{port}", "master", "alive"],
        *[[f"{replica.address}:{port}", "replica", "in sync"] for replica in cluster.replicas],
    ]
    assert "\033" not in done.stdout


def test_an_explanation(daemon: Daemon, cluster: Cluster) -> None:
    done = run(daemon, "explain", "replica?lag_ms=60000")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line[0] for line in done.stdout.splitlines()] == ["-", "+", "+"]
    assert run(daemon, "explain", "/master").stdout.startswith(f"+ {cluster.primary.address}")
    wrong = run(daemon, "explain", "replica?lag_ms=x")
    assert (wrong.returncode, wrong.stderr) == (1, "pg-status: refused with 400: Invalid lag_ms\n")
    for nothing in ("nothing", "r\u00e9plica", "../hosts", ""):
        done = run(daemon, "explain", nothing)
        assert done.returncode == 1
        assert re.fullmatch(r"pg-status: [^\n]+\n", done.stderr)


@pytest.mark.parametrize("command", [["hosts"], ["explain", "master"], ["health"]])
def test_nobody_to_ask(daemon: Daemon, command: list[str]) -> None:
    done = run(daemon, *command, "--url", f"http://{daemon.address}:1")
    assert done.returncode == 1
    assert re.fullmatch(r"pg-status: no answer from \S+: .*Connection refused\n", done.stderr)
    done = run(daemon, *command, "--url", "pg1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "expected http://host:port" in done.stderr


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://pg\u00fc..x", "http://h:99999", "http://h/x"]
)
def test_addresses_that_are_none(daemon: Daemon, url: str) -> None:
    done = run(daemon, "hosts", "--url", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"pg-status: [^\n]+\n", done.stderr)


def test_something_else_answers(daemon: Daemon, tmp_path: Path) -> None:
    """Another server says 200, too."""
    (tmp_path / "hosts").write_text("hello")
    with socketserver.TCPServer(
        (daemon.address, 0),
        partial(SimpleHTTPRequestHandler, directory=str(tmp_path)),
    ) as server:
        threading.Thread(target=server.handle_request).start()
        done = run(daemon, "hosts", "--url", f"http://{daemon.address}:{server.server_address[1]}")
    assert done.returncode == 1
    assert "is no pg-status\n" in done.stderr


def test_without_a_configuration_the_way_to_others_is_told(daemon: Daemon) -> None:
    done = run(daemon, "hosts", hosts="")
    assert (done.returncode, done.stdout) == (78, "")
    assert "pg_status__hosts is not set" in done.stderr
    assert "--url http://127.0.0.1:8000" in done.stderr


def test_options_of_a_url_without_one(daemon: Daemon) -> None:
    done = run(daemon, "hosts", "--token-file", "/nowhere")
    assert done.returncode == 1
    assert "go with --url" in done.stderr


def test_no_master_is_status_3(make_daemon: DaemonFactory, cluster: Cluster) -> None:
    replica = cluster.replicas[0]
    daemon = make_daemon(hosts=f"{replica.address}:{replica.port}")
    assert run(daemon, "hosts").returncode == 3
    assert run(daemon, "explain", "master").returncode == 3
    assert run(daemon, "explain", "replica").returncode == 0
    assert run(daemon, "health").returncode == 0


def test_a_token_and_what_is_said_without(
    cluster: Cluster, make_daemon: DaemonFactory, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("t" * 32)
    daemon = make_daemon(cluster, http_token_file=file)
    assert run(daemon, "hosts").returncode == 0
    url = ["--url", daemon.url]
    refused = run(daemon, "hosts", *url)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "refused with 401: token required" in refused.stderr
    assert run(daemon, "hosts", *url, "--token-file", str(file)).returncode == 0
    assert run(daemon, "health", *url).returncode == 0
    assert "cannot be read" in run(daemon, "hosts", *url, "--token-file", "/nowhere").stderr


def test_watching_goes_on_until_it_is_interrupted(daemon: Daemon) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pgstatus", "hosts", "--watch", "0.1"],
        env=daemon.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        headings = 0
        while headings < 3:
            headings += "Host" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_a_terminal_gets_colours_unless_it_asks_for_none(daemon: Daemon) -> None:
    assert "\033[32mmaster" in _on_a_terminal(daemon)
    assert "\033" not in _on_a_terminal(daemon, NO_COLOR="1")


def _on_a_terminal(daemon: Daemon, **environment: str) -> str:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pgstatus", "hosts"]
    inherited = {k: v for k, v in daemon.environment.items() if k != "NO_COLOR"}
    with subprocess.Popen(
        command, env={**inherited, "TERM": "xterm", **environment}, stdout=theirs
    ) as process:
        os.close(theirs)
        text = b""
        try:
            while part := os.read(ours, 65536):
                text += part
        except OSError:  # how Linux says that the other side was closed
            pass
        os.close(ours)
        assert process.wait(10) == 0
    return text.decode()


def test_a_reader_that_has_seen_enough(daemon: Daemon) -> None:
    """``pg-status hosts --watch | head -1`` ends, and without a traceback."""
    with subprocess.Popen(
        [sys.executable, "-m", "pgstatus", "hosts", "--watch", "0.1"],
        env=daemon.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(10) == 1
        assert process.stderr.read() == ""


def test_check_says_what_works(daemon: Daemon, cluster: Cluster) -> None:
    done = run(daemon, "check")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split(", answered")[0] for line in lines[:3]] == [
        f"{server.address}:{server.port}: ok, {role}"
        for server, role in zip(cluster.servers, ("master", "replica", "replica"), strict=True)
    ]
    assert lines[3:] == [f"master: {cluster.primary.address}:{cluster.primary.port}"]


def test_check_names_missing_privileges_and_how_to_grant_them(
    make_cluster: ClusterFactory, daemons: Daemons
) -> None:
    """Whoever runs the SQL that it prints hears no more of it."""
    cluster = make_cluster(replicas=1)
    primary, replica = cluster.servers
    primary.sql("CREATE ROLE \"the watcher\" LOGIN PASSWORD 'w'")
    primary.sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    role = {"pg_user": "the watcher", "pg_password": "w"}
    daemon = daemons.prepare(cluster)
    done = run(daemon, "check", **role)
    assert done.returncode == 0
    name = f"{replica.address}:{replica.port}"
    assert f"\n{name}: may not read pg_stat_wal_receiver" in done.stdout
    remedies = re.findall(r"^    (GRANT .*;)$", done.stdout, re.MULTILINE)
    assert len(remedies) == 2
    for sql in remedies:
        primary.sql(sql)
    lsn = primary.lsn()
    wait_until("the replica has it", lambda: replica.lsn() >= lsn)
    assert "GRANT" not in run(daemon, "check", **role).stdout


def test_check_names_hosts_that_fail(cluster: Cluster, daemons: Daemons) -> None:
    primary = cluster.primary
    daemon = daemons.prepare(hosts=f"{primary.address}:{primary.port},{primary.address}:1")
    done = run(daemon, "check")
    assert done.returncode == 1
    assert f"{primary.address}:1: FAILED (connect): Connection refused\n" in done.stdout
    assert f"{primary.address}:{primary.port}: ok, master" in done.stdout
    done = run(daemon, "check", pg_password="wrong")
    assert "FAILED (rejected): FATAL:  password authentication failed" in done.stdout
    assert "master: none" in done.stdout


def test_check_of_the_configuration_alone_asks_nobody(daemons: Daemons) -> None:
    daemon = daemons.prepare(hosts="192.0.2.1", pg_user="x", slepp_ms="1")
    began = time.monotonic()
    done = run(daemon, "check", "--config-only")
    assert (done.returncode, done.stdout) == (0, "")
    assert "did you mean pg_status__sleep_ms?" in done.stderr
    assert time.monotonic() - began < 10
    assert run(daemon, "check", "--config-only", max_fails="x").returncode == 78


@pytest.mark.parametrize("command", ["hosts", "explain", "check", "health", "demo", "failover"])
def test_help_answers(daemon: Daemon, command: str) -> None:
    done = run(daemon, command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: pg-status {command}" in done.stdout
    assert run(daemon, command, "--no-such-option").returncode == 2
