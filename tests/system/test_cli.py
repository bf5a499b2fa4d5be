"""The commands for people: what they print, and exit statuses that a script can use."""

import os
import pty
import re
import signal
import socketserver
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from pgstatus.cli.show import duration
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
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "pg-status: error: the request was refused with status 400: Invalid lag_ms\n",
    )
    for nothing in ("nothing", "r\u00e9plica", "../hosts", ""):
        done = run(daemon, "explain", nothing)
        assert done.returncode == 1
        assert re.fullmatch(r"pg-status: error: [^\n]+\n", done.stderr)


@pytest.mark.parametrize("command", [["hosts"], ["explain", "master"], ["health"]])
def test_an_instance_that_cannot_be_reached(daemon: Daemon, command: list[str]) -> None:
    done = run(daemon, *command, "--url", f"http://{daemon.address}:1")
    assert done.returncode == 1
    assert re.fullmatch(
        r"pg-status: error: no response from \S+: .*Connection refused\n", done.stderr
    )
    done = run(daemon, *command, "--url", "pg1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "expected http://host:port" in done.stderr


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://h:99999", "http://h/x", "http://h?x", "nonsense", "unix:x",
     "unix://tmp/x", "unix:", "ftp://h"],
)  # fmt: skip
@pytest.mark.parametrize("watch", [[], ["--watch"]])
def test_an_invalid_url_is_an_error_at_once(daemon: Daemon, url: str, watch: list[str]) -> None:
    done = run(daemon, "hosts", *watch, "--url", url)
    assert "expected http://host:port, https://host:port or unix:/path" in done.stderr
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"pg-status: error: [^\n]+\n", done.stderr)


def test_another_server_at_the_address(daemon: Daemon, tmp_path: Path) -> None:
    """Its status is 200, too."""
    (tmp_path / "hosts").write_text("hello")
    with socketserver.TCPServer(
        (daemon.address, 0),
        partial(SimpleHTTPRequestHandler, directory=str(tmp_path)),
    ) as server:
        threading.Thread(target=server.handle_request).start()
        done = run(daemon, "hosts", "--url", f"http://{daemon.address}:{server.server_address[1]}")
    assert done.returncode == 1
    assert "is not pg-status\n" in done.stderr


def test_without_a_configuration_the_error_mentions_the_option_url(daemon: Daemon) -> None:
    done = run(daemon, "hosts", hosts="")
    assert (done.returncode, done.stdout) == (78, "")
    assert "pg_status__hosts is not set" in done.stderr
    assert "--url http://127.0.0.1:8000" in done.stderr


def test_options_that_require_a_url(daemon: Daemon) -> None:
    done = run(daemon, "hosts", "--token-file", "/nowhere")
    assert done.returncode == 1
    assert "require --url" in done.stderr


def test_no_master_is_status_3(make_daemon: DaemonFactory, cluster: Cluster) -> None:
    replica = cluster.replicas[0]
    daemon = make_daemon(hosts=f"{replica.address}:{replica.port}")
    assert run(daemon, "hosts").returncode == 3
    assert run(daemon, "explain", "master").returncode == 3
    assert run(daemon, "explain", "replica").returncode == 0
    assert run(daemon, "health").returncode == 0


def test_a_token(cluster: Cluster, make_daemon: DaemonFactory, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t" * 32)
    daemon = make_daemon(cluster, http_token_file=file)
    assert run(daemon, "hosts").returncode == 0
    url = ["--url", daemon.url]
    refused = run(daemon, "hosts", *url)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "refused with status 401: token required" in refused.stderr
    assert run(daemon, "hosts", *url, "--token-file", str(file)).returncode == 0
    assert run(daemon, "health", *url).returncode == 0
    assert "cannot be read" in run(daemon, "hosts", *url, "--token-file", "/nowhere").stderr


def test_watch_continues_until_it_is_interrupted(daemon: Daemon) -> None:
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


def test_colours_on_a_terminal_and_no_color(daemon: Daemon) -> None:
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
        except OSError:  # on Linux, the other side was closed
            pass
        os.close(ours)
        assert process.wait(10) == 0
    return text.decode()


def test_a_closed_pipe(daemon: Daemon) -> None:
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


def test_check_of_a_healthy_cluster(daemon: Daemon, cluster: Cluster) -> None:
    done = run(daemon, "check")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split(", responded")[0] for line in lines[:3]] == [
        f"{server.address}:{server.port}: ok, {role}"
        for server, role in zip(cluster.servers, ("master", "replica", "replica"), strict=True)
    ]
    assert lines[3:] == [f"master: {cluster.primary.address}:{cluster.primary.port}"]


def test_check_prints_the_sql_for_missing_privileges(
    make_cluster: ClusterFactory, daemons: Daemons
) -> None:
    """After this SQL was executed, nothing is reported any more."""
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


def test_check_of_hosts_that_fail(cluster: Cluster, daemons: Daemons) -> None:
    primary = cluster.primary
    daemon = daemons.prepare(hosts=f"{primary.address}:{primary.port},{primary.address}:1")
    done = run(daemon, "check")
    assert done.returncode == 1
    assert f"{primary.address}:1: FAILED (connect): Connection refused\n" in done.stdout
    assert f"{primary.address}:{primary.port}: ok, master" in done.stdout
    done = run(daemon, "check", pg_password="wrong")
    assert "FAILED (rejected): FATAL:  password authentication failed" in done.stdout
    assert "master: none" in done.stdout


def test_check_of_the_configuration_alone_connects_to_no_host(daemons: Daemons) -> None:
    daemon = daemons.prepare(hosts="192.0.2.1", pg_user="x", slepp_ms="1")
    done = run(daemon, "check", "--config-only")
    assert (done.returncode, done.stdout) == (0, "OK: the configuration can be used\n")
    assert "pg-status: warning: " in done.stderr
    assert "did you mean pg_status__sleep_ms?" in done.stderr
    assert run(daemon, "check", "--config-only", max_fails="x").returncode == 78


@pytest.mark.parametrize("command", ["hosts", "explain", "check", "health", "demo", "failover"])
def test_help(daemon: Daemon, command: str) -> None:
    done = run(daemon, command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: pg-status {command}" in done.stdout
    assert run(daemon, command, "--no-such-option").returncode == 2


def test_health_prints_ok(daemon: Daemon) -> None:
    done = run(daemon, "health")
    assert (done.returncode, done.stdout, done.stderr) == (0, "OK\n", "")


@pytest.mark.parametrize("scheme", ["unix:", "unix://"])
def test_the_path_of_a_unix_socket(daemon: Daemon, tmp_path: Path, scheme: str) -> None:
    """No character of it has a special meaning."""
    path = tmp_path / "a?b#c"
    with socketserver.UnixStreamServer(str(path), _Alive) as server:
        threading.Thread(target=server.handle_request).start()
        done = run(daemon, "health", "/live", "--url", f"{scheme}{path}")
    assert (done.returncode, done.stderr) == (0, "")


class _Alive(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nOK")


def test_a_name_that_cannot_be_resolved(daemon: Daemon) -> None:
    done = run(daemon, "hosts", "--url", "http://pg\u00fc..x")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"pg-status: error: no response from [^\n]+\n", done.stderr)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 ms"), (0.0124, "12 ms"), (0.9996, "1.0 s"), (3.712, "3.7 s"), (99.96, "1 min 40 s"),
     (125, "2 min 5 s"), (3720, "1 h 2 min")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(daemon: Daemon, closed: str) -> None:
    """No file or connection gets their descriptors, and no message ends in a traceback."""
    command = f"exec {sys.executable} -m pgstatus hosts --url nonsense {closed}"
    done = subprocess.run(["sh", "-c", command], env=daemon.environment, check=False)
    assert done.returncode == 1
