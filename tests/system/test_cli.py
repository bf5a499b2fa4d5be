"""The commands for people: what they print, and exit statuses that a script can use."""

import json
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from pgstatus.demo.cluster import PASSWORD, Cluster
from tests.conftest import ClusterFactory, DaemonFactory, Daemons
from tests.support.certificates import Certificates
from tests.support.daemon import Daemon
from tests.support.reverse_proxy import reverse_proxy
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
    heading, table = done.stdout.split("\n\n")
    rows = [re.split(r"  +", line) for line in table.splitlines()]
    port = cluster.primary.port
    assert rows[0] == ["Host", "Role", "State", "Lag", "Behind", "TL", "LSN"]
    assert [row[:3] for row in rows[1:]] == [
        [f"{cluster.primary.address}:{port}", "master", "alive"],
        *[[f"{replica.address}:{port}", "replica", "in sync"] for replica in cluster.replicas],
    ]
    assert f"master {cluster.primary.address}:{port}" in heading
    assert "replicas in sync 2 of 2 live" in heading
    assert daemon.url in heading
    assert re.search(r" \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", heading, re.MULTILINE)
    assert "\033" not in done.stdout


def test_json_for_programs(daemon: Daemon, cluster: Cluster) -> None:
    state = json.loads(run(daemon, "hosts", "--json").stdout)
    assert state["master"] == f"{cluster.primary.address}:{cluster.primary.port}"
    assert [host["host"] for host in state["hosts"]] == [s.address for s in cluster.servers]
    assert set(state["hosts"][0]) == set(daemon.json("/hosts")[0])
    verdicts = json.loads(run(daemon, "explain", "replica", "--json").stdout)
    assert [verdict["chosen"] for verdict in verdicts] == [False, True, True]
    checked = json.loads(run(daemon, "check", "--json").stdout)
    assert checked["verdict"] == "OK"
    assert [host["verdict"] for host in checked["hosts"]] == ["OK"] * 3
    assert json.loads(run(daemon, "check", "--config-only", "--json").stdout)["verdict"] == "OK"


def test_the_name_of_the_cluster_is_in_the_heading(
    make_daemon: DaemonFactory, cluster: Cluster
) -> None:
    daemon = make_daemon(cluster, cluster_name="orders")
    assert run(daemon, "hosts").stdout.startswith(f"orders  on {socket.gethostname()}")


def test_an_instance_below_a_path(daemon: Daemon) -> None:
    """As behind a reverse proxy; the URL may end with a slash, and stand in the environment."""
    with reverse_proxy(daemon, "/ops/pg-status") as proxy:
        for url in (proxy.url, f"{proxy.url}/"):
            assert run(daemon, "hosts", "--url", url).returncode == 0
        daemon_in_environment = {**daemon.environment, "PG_STATUS_URL": proxy.url}
        for command in (["hosts"], ["explain", "master"], ["health"]):
            done = subprocess.run(
                [sys.executable, "-m", "pgstatus", *command],
                env=daemon_in_environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert (done.returncode, done.stderr) == (0, "")
        assert proxy.requests == [
            *["/ops/pg-status/overview"] * 3,
            "/ops/pg-status/explain/master",
            "/ops/pg-status/health",
        ]


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
    ignored = run(daemon, "explain", "replica?lag=50&fallback=none")
    assert (ignored.returncode, ignored.stderr) == (
        0, "pg-status: warning: the unknown parameter 'lag' is ignored (did you mean lag_ms?)\n"
    )  # fmt: skip
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
    ["http://[::1", "http://h:99999", "http://h/x#y", "http://h?x", "nonsense", "unix:x",
     "unix://tmp/x", "unix:", "ftp://h"],
)  # fmt: skip
@pytest.mark.parametrize("watch", [[], ["--watch"]])
def test_an_invalid_url_is_an_error_at_once(daemon: Daemon, url: str, watch: list[str]) -> None:
    done = run(daemon, "hosts", *watch, "--url", url)
    assert "expected http://host:port, https://host:port, either with a path, or" in done.stderr
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"pg-status: error: [^\n]+\n", done.stderr)


@pytest.mark.parametrize("url", ["http://u:geheim@h", "https://geheim@h:1/?x", "http://:geheim@h"])
def test_credentials_in_a_url_are_refused_and_not_shown(daemon: Daemon, url: str) -> None:
    done = run(daemon, "hosts", "--url", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "credentials in a URL are not supported" in done.stderr
    assert "geheim" not in done.stderr


@pytest.mark.parametrize("body", ["hello", "1", "[1]", "{}"])
def test_another_server_at_the_address(daemon: Daemon, tmp_path: Path, body: str) -> None:
    """Its status is 200, too."""
    (tmp_path / "explain").mkdir()
    for file in ("overview", "explain/master"):
        (tmp_path / file).write_text(body)
    for command in (["hosts"], ["explain", "master"]):
        with socketserver.TCPServer(
            (daemon.address, 0),
            partial(SimpleHTTPRequestHandler, directory=str(tmp_path)),
        ) as server:
            threading.Thread(target=server.handle_request).start()
            url = f"http://{daemon.address}:{server.server_address[1]}"
            done = run(daemon, *command, "--url", url)
        assert done.returncode == 1
        assert done.stderr.endswith("is not pg-status\n")


def test_without_a_configuration_the_error_mentions_the_option_url(daemon: Daemon) -> None:
    done = run(daemon, "hosts", hosts="")
    assert (done.returncode, done.stdout) == (78, "")
    assert "pg_status__hosts is not set" in done.stderr
    assert done.stderr.endswith(
        "pg-status: hint: for an instance with another configuration use "
        "--url http://127.0.0.1:8000\n"
    )


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
    assert refused.stderr.endswith("status 401: token required; use --url with --token-file\n")
    assert run(daemon, "hosts", *url, "--token-file", str(file)).returncode == 0
    assert run(daemon, "health", *url).returncode == 0
    assert "cannot be read" in run(daemon, "hosts", *url, "--token-file", "/nowhere").stderr
    # The list of clusters requires the token; the reason is that of the response.
    unknown = run(daemon, "health", *url, "--cluster", "typo")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "pg-status: error: unknown cluster typo; see /clusters\n"


def test_watch_into_a_pipe_continues_until_it_is_interrupted(daemon: Daemon) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pgstatus", "hosts", "--watch", "0.1"],
        env=daemon.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        while "Host" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_watch_as_json_has_one_line_per_change(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster(replicas=1)
    daemon = make_daemon(cluster)
    with subprocess.Popen(
        [sys.executable, "-m", "pgstatus", "hosts", "--watch", "3600", "--json"],
        env=daemon.environment, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        masters = [json.loads(process.stdout.readline())["master"]]
        before, after = (f"{s.address}:{s.port}" for s in cluster.servers)
        cluster.fail_over()
        while after not in masters:
            masters.append(json.loads(process.stdout.readline())["master"])
        assert masters[0] == before
        process.kill()


@pytest.mark.parametrize("options", [["--json"], []])
def test_watch_reports_on_standard_error_that_the_instance_is_unavailable(
    daemon: Daemon, options: list[str]
) -> None:
    """Once, and with the time."""
    command = [sys.executable, "-m", "pgstatus", "hosts", "--watch", "0.1", *options, "--url"]
    with (
        socket.create_server((daemon.address, 0)) as unused,
        subprocess.Popen(
            [*command, f"http://{daemon.address}:{unused.getsockname()[1]}"],
            env=daemon.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process,
    ):  # fmt: skip
        assert process.stderr is not None
        assert process.stdout is not None
        for _ in range(3):  # attempts
            connection, _ = unused.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\n\r\nmaintenance")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stdout.read() == ""
        (line,) = process.stderr.read().splitlines()
        time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
        assert re.fullmatch(f"pg-status: warning: {time}: .* 503: maintenance", line)


@pytest.mark.parametrize(
    "command",
    [["hosts"], ["hosts", "--json"], ["hosts", "--watch"], ["hosts", "--watch", "--json"],
     ["clusters"], ["explain", "master"], ["health"], ["check"], ["check", "--json"],
     ["check", "--config-only"], ["--help"], ["--version"]],
    ids=" ".join,
)  # fmt: skip
def test_a_full_disk_is_an_error(daemon: Daemon, command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pgstatus", *command],
            env=daemon.environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1, "pg-status: error: standard output: No space left on device\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    "variables",
    [{"PYTHONIOENCODING": "ascii"},
     {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)  # fmt: skip
def test_characters_that_the_encoding_does_not_have_are_escaped(
    make_daemon: DaemonFactory, cluster: Cluster, variables: dict[str, str]
) -> None:
    daemon = make_daemon(cluster, cluster_name="m\u00fcnchen \u20ac")
    inherited = {k: v for k, v in daemon.environment.items() if not k.startswith("pg_status__")}
    environment = {**inherited, **variables, "PG_STATUS_URL": daemon.url}

    def output(*arguments: str) -> str:
        command = [sys.executable, "-m", "pgstatus", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b""), arguments
        return done.stdout.decode("ascii")

    assert output("hosts").startswith(r"m\xfcnchen \u20ac  on ")
    assert r"m\xfcnchen \u20ac" in output("clusters")
    assert json.loads(output("hosts", "--json"))["cluster"] == "m\u00fcnchen \u20ac"
    clusters = json.loads(output("clusters", "--json"))["clusters"]
    assert clusters[0]["name"] == "m\u00fcnchen \u20ac"


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
        assert process.wait(60) == 1
        assert process.stderr.read() == ""


def test_a_broken_pipe_of_the_daemon_is_not_taken_for_closed_output() -> None:
    """It is a connection: the reader of standard output has not ended."""
    code = (
        "import pgstatus.daemon.process\n"
        "def serve(*_): raise BrokenPipeError(32, 'Broken pipe')\n"
        "pgstatus.daemon.process.serve = serve\n"
        "from pgstatus.cli.main import main\n"
        "main([])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("BrokenPipeError: [Errno 32] Broken pipe\n")


def test_check_of_a_healthy_cluster(daemon: Daemon, cluster: Cluster) -> None:
    """A verdict per host, and a summary."""
    done = run(daemon, "check")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [re.split(r"  +", line.split(", responded")[0]) for line in lines[:3]] == [
        ["OK", f"{server.address}:{server.port}", role]
        for server, role in zip(cluster.servers, ("master", "replica", "replica"), strict=True)
    ]
    port = cluster.primary.port
    assert lines[3:] == [
        "", f"OK: 3 of 3 hosts responded, master {cluster.primary.address}:{port}"
    ]  # fmt: skip


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
    assert f"WARNING  {name}  replica" in done.stdout
    assert "\nWARNING: 2 of 2 hosts responded, master " in done.stdout
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
    lines = [re.split(r"  +", line) for line in done.stdout.splitlines()]
    assert ["FAILED", f"{primary.address}:1", "connect: Connection refused"] in lines
    assert ["OK", f"{primary.address}:{primary.port}"] in [line[:2] for line in lines]
    assert lines[-1][0].startswith("FAILED: 1 of 2 hosts responded, master ")
    done = run(daemon, "check", pg_password="wrong")
    assert re.search(r"rejected: FATAL: +password authentication failed", done.stdout)
    assert "FAILED: 0 of 2 hosts responded, no master: " in done.stdout


def test_check_of_a_split_brain(make_cluster: ClusterFactory, daemons: Daemons) -> None:
    """The summary mentions it; a replica of the other master is not OK."""
    cluster = make_cluster(replicas=2)
    primary, promoted, replica = cluster.servers
    promoted.promote()
    daemon = daemons.prepare(cluster)
    done = run(daemon, "check")
    assert done.returncode == 0
    names = [f"{server.address}:{server.port}" for server in (primary, promoted, replica)]
    verdicts = {words[1]: words[0] for words in map(str.split, done.stdout.splitlines()[:3])}
    assert verdicts == {names[0]: "WARNING", names[1]: "OK", names[2]: "WARNING"}
    assert f"{names[2]}  replica, " in done.stdout
    assert "on timeline 1 (master's timeline: 2)" in done.stdout
    assert done.stdout.endswith(
        "\nWARNING: 3 of 3 hosts responded, "
        f"split brain: {names[0]} and {names[1]} are masters, master {names[1]}\n"
    )


@pytest.mark.parametrize("options", [[], ["--config-only"]])
def test_check_of_an_invalid_configuration_has_a_verdict(
    daemons: Daemons, options: list[str]
) -> None:
    daemon = daemons.prepare(hosts="a,,b")
    done = run(daemon, "check", *options)
    assert (done.returncode, done.stdout) == (78, "FAILED: the configuration cannot be used\n")
    assert "pg-status: error: pg_status__hosts" in done.stderr
    report = json.loads(run(daemon, "check", "--json", *options).stdout)
    assert (report["verdict"], report["summary"]) == ("FAILED", "the configuration cannot be used")
    assert len(report["problems"]) == 1
    assert "pg_status__hosts" in report["problems"][0]


def test_a_password_file_that_libpq_ignores_is_reported_once(
    daemons: Daemons, cluster: Cluster, tmp_path: Path
) -> None:
    """libpq would write a warning of its own for each login."""
    file = tmp_path / "passwords"
    file.write_text(f"*:*:*:*:{PASSWORD}\n")
    file.chmod(0o644)
    daemon = daemons.prepare(cluster)
    daemon.environment["PGPASSFILE"] = str(file)
    ignored = "accessible by group or others; libpq ignores it (use chmod 600)"
    daemon.environment.pop("pg_status__pg_password", None)
    done = run(daemon, "check")
    assert (done.returncode, done.stderr) == (
        1, f"pg-status: warning: password file: {file}: {ignored}\n"
    )  # fmt: skip
    file.chmod(0o600)
    done = run(daemon, "check")
    assert (done.returncode, done.stderr) == (0, "")


def test_check_of_the_configuration_alone_connects_to_no_host(daemons: Daemons) -> None:
    daemon = daemons.prepare(hosts="192.0.2.1", pg_user="x", slepp_ms="1")
    done = run(daemon, "check", "--config-only")
    assert (done.returncode, done.stdout) == (0, "OK: the configuration can be used\n")
    assert "pg-status: warning: " in done.stderr
    assert "did you mean pg_status__sleep_ms?" in done.stderr
    assert run(daemon, "check", "--config-only", max_fails="x").returncode == 78


@pytest.mark.parametrize(
    "command", ["hosts", "explain", "check", "health", "demo", "failover", "reload"]
)
def test_help(daemon: Daemon, command: str) -> None:
    done = run(daemon, command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: pg-status {command}" in done.stdout
    assert run(daemon, command, "--no-such-option").returncode == 2


@pytest.mark.parametrize(
    ("command", "example"),
    [([], "pg-status explain 'replica?lag_ms=50'"), (["hosts"], "pg-status hosts --watch"),
     (["explain"], "pg-status explain master"), (["check"], "pg-status check --json"),
     (["health"], "pg-status health /ready"), (["demo"], "pg-status demo --port 8001"),
     (["failover"], "pg-status failover"), (["clusters"], "pg-status clusters --watch"),
     (["reload"], "docker exec pg-status python3 -m pgstatus reload --pid 1")],
)  # fmt: skip
def test_help_contains_examples(daemon: Daemon, command: list[str], example: str) -> None:
    text = run(daemon, *command, "--help").stdout
    assert f"\nexamples:\n  pg-status {' '.join(command)}" in text
    assert f"\n  {example}" in text
    assert max(map(len, text.splitlines())) <= 80
    if command:
        assert "exit status: 0 " in text
        assert "2 invalid arguments" in " ".join(text.split())


def test_errors_and_warnings_show_their_level(daemons: Daemons) -> None:
    daemon = daemons.prepare(hosts="192.0.2.1", slepp_ms="1")
    done = run(daemon, "check", "--config-only", max_fails="x")
    errors, warnings = done.stderr.splitlines()
    assert errors.startswith("pg-status: error: pg_status__max_fails='x': expected ")
    assert warnings.startswith("pg-status: warning: pg_status__slepp_ms is not a variable")


@pytest.mark.parametrize("name", ["lag", "name", "timeout", "url", "listen", "tls"])
def test_an_unknown_variable_without_a_similar_name_has_no_suggestion(
    daemons: Daemons, name: str
) -> None:
    daemon = daemons.prepare(hosts="192.0.2.1")
    done = run(daemon, "check", "--config-only", **{name: "1"})
    assert done.stderr == f"pg-status: warning: pg_status__{name} is not a variable of pg-status\n"


def test_a_world_readable_secret_causes_a_warning(daemons: Daemons, tmp_path: Path) -> None:
    """Of a password, a token and a key; also if the password is in the file of variables."""
    certificates = Certificates(tmp_path, "127.0.0.1")
    secret, env_file = tmp_path / "secret", tmp_path / "env"
    secret.write_text("t" * 32)
    env_file.write_text("pg_status__pg_password=secret\n")
    files = {
        "pg_password_file": secret,
        "http_token_file": secret,
        "http_tls_key": certificates.key,
        "env_file": env_file,
    }
    for name, file in files.items():
        tls = {"http_tls_cert": certificates.cert} if name == "http_tls_key" else {}
        daemon = daemons.prepare(hosts="192.0.2.1")
        for mode, text in (
            (0o644, f"{file} contains a secret and is readable by every"),
            (0o640, ""),
        ):
            file.chmod(mode)
            stderr = run(daemon, "check", "--config-only", **tls, **{name: file}).stderr
            assert (f"pg-status: warning: pg_status__{name}: {text}" in stderr) is bool(text), name


def test_files_that_other_users_can_read_or_change_cause_a_warning(
    daemons: Daemons, tmp_path: Path
) -> None:
    """A service file with a password, the token of a command, files that may set on_change."""
    services, env_file, token = (tmp_path / name for name in ("services", "env", "token"))
    clusters = tmp_path / "clusters"
    clusters.mkdir()
    services.write_text("[orders]\nuser=u\n password = secret\n")
    env_file.write_text("pg_status__max_fails=4\n")
    token.write_text("t" * 32)

    def warnings(file: Path, mode: int, *arguments: str, **variables: object) -> list[str]:
        file.chmod(mode)
        daemon = daemons.prepare(None, **({"hosts": "192.0.2.1"} | variables))
        daemon.environment["PGSERVICEFILE"] = str(services)
        lines = run(daemon, *(arguments or ("check", "--config-only"))).stderr.splitlines()
        return [line for line in lines if str(file) in line]

    def readable(source: str, file: Path) -> list[str]:
        remark = "contains a secret and is readable by every user of this machine (use chmod o-r)"
        return [f"pg-status: warning: {source}{file} {remark}"]

    def writable(source: str, file: Path) -> list[str]:
        remark = "can be changed by every user of this machine (use chmod o-w)"
        return [f"pg-status: warning: {source}{file} {remark}"]

    hosts = "postgresql://192.0.2.1?service=orders"
    assert warnings(services, 0o644, hosts=hosts) == readable("service file: ", services)
    assert warnings(services, 0o644) == []
    assert warnings(services, 0o640, hosts=hosts) == []
    request = ("hosts", "--url", "http://127.0.0.1:1", "--token-file", str(token))
    assert warnings(token, 0o644, *request) == readable("", token)
    assert warnings(token, 0o600, *request) == []
    name = "pg_status__env_file: "
    assert warnings(env_file, 0o644, env_file=env_file) == []
    assert warnings(env_file, 0o646, env_file=env_file) == writable(name, env_file)
    found = warnings(clusters, 0o777, hosts="", clusters_dir=clusters)
    assert writable("pg_status__clusters_dir: ", clusters)[0] in found


def test_check_reads_the_password_file(daemons: Daemons, cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "password"
    daemon = daemons.prepare(cluster, pg_password_file=file)
    assert (
        f"warning: pg_status__pg_password_file: {file}: no such file"
        in run(daemon, "check", "--config-only").stderr
    )
    done = run(daemon, "check")
    assert (
        done.returncode,
        done.stdout.count(f"cannot read the password file: {file}: no such file"),
    ) == (1, 3)
    file.write_text(PASSWORD)
    file.chmod(0o600)
    done = run(daemon, "check")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_invalid_token(cluster: Cluster, make_daemon: DaemonFactory, tmp_path: Path) -> None:
    valid, other = tmp_path / "valid", tmp_path / "other"
    valid.write_text("v" * 32)
    other.write_text("o" * 32)
    other.chmod(0o600)
    daemon = make_daemon(cluster, http_token_file=valid)
    done = run(daemon, "hosts", "--url", daemon.url, "--token-file", str(other))
    assert done.stderr == (
        "pg-status: error: the request was refused with status 401: invalid token\n"
    )


def test_an_explanation_contains_the_cause_of_death(
    make_daemon: DaemonFactory, cluster: Cluster
) -> None:
    primary = cluster.primary
    daemon = make_daemon(hosts=f"{primary.address}:{primary.port},{primary.address}:1")
    for question in ("master", "replica"):

        def is_explained(question: str = question) -> bool:
            text = run(daemon, "explain", question).stdout
            cause = r"^- \S+:1 +dead: .* in a row \(Connection refused\)$"
            return re.search(cause, text, re.MULTILINE) is not None

        # It is not dead before the third failed check.
        wait_until(f"the explanation of {question}", is_explained)


def test_health_prints_ok(daemon: Daemon) -> None:
    done = run(daemon, "health")
    assert (done.returncode, done.stdout, done.stderr) == (0, "OK\n", "")


def test_health_prints_the_reason(daemons: Daemons, cluster: Cluster) -> None:
    watcher = daemons.prepare(cluster)  # which is not started
    relay = daemons.prepare(upstreams=watcher.url)
    with relay.launched():
        wait_until("it responds", lambda: run(relay, "health", "/live").returncode == 0)
        done = run(relay, "health")
    assert (done.returncode, done.stdout) == (1, "")
    reason = "not ready: no watcher has delivered evidence yet; "
    assert done.stderr.startswith(f"pg-status: error: /health: status 503: {reason}{watcher.url}: ")


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


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(daemon: Daemon, closed: str) -> None:
    """No file or connection gets their descriptors, and no message ends in a traceback."""
    command = f"exec {sys.executable} -m pgstatus hosts --url nonsense {closed}"
    done = subprocess.run(["sh", "-c", command], env=daemon.environment, check=False)
    assert done.returncode == 1
