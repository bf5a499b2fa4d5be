"""SIGHUP: another configuration, the same connections, not one lost request."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.conftest import ClusterFactory, DaemonFactory, Daemons
from tests.support.daemon import Daemon
from tests.support.load import Load
from tests.support.waiting import wait_until

Write = Callable[..., None]


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / "pg-status.env"


@pytest.fixture
def write(env_file: Path, cluster: Cluster) -> Write:
    """``write(hosts=cluster.servers, max_fails=5)`` into the file."""

    def write(**variables: object) -> None:
        variables.setdefault("hosts", ",".join(server.address for server in cluster.servers))
        variables.setdefault("pg_port", cluster.primary.port)
        lines = [f"pg_status__{name}={value}\n" for name, value in variables.items()]
        env_file.write_text("".join(lines))

    return write


@pytest.fixture
def daemon(make_daemon: DaemonFactory, env_file: Path, write: Write) -> Daemon:
    write()
    return make_daemon(env_file=env_file)


def hosts_of(daemon: Daemon) -> set[str]:
    return {entry["host"] for entry in daemon.json("/hosts")}


def _has_refused(daemon: Daemon, times: int) -> bool:
    return daemon.log.count("reload refused: ") == times


def _has_refused_more(daemon: Daemon, than: int) -> bool:
    return daemon.log.count("reload refused: ") > than


def reload_and_wait(daemon: Daemon) -> None:
    before = daemon.log.count("reloaded: ")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until("reloaded", lambda: daemon.log.count("reloaded: ") > before)


def test_not_one_request_fails_at_a_thousand_a_second(
    daemon: Daemon, cluster: Cluster, write: Write, env_file: Path
) -> None:
    primary, first, second = cluster.servers
    wait_until("all in sync", lambda: all(entry["sync_by_time"] for entry in daemon.json("/hosts")))
    with Load(daemon.url, "/sync_by_time") as load:
        for refused in (2, 4, 6):
            write(hosts=f"{primary.address},{first.address}", sync_max_lag_ms=500)
            reload_and_wait(daemon)
            assert hosts_of(daemon) == {primary.address, first.address}
            write()
            reload_and_wait(daemon)
            assert hosts_of(daemon) == {server.address for server in cluster.servers}
            env_file.write_text("pg_status__max_fails=never\n")
            daemon.process.send_signal(signal.SIGHUP)
            wait_until("refused", partial(_has_refused, daemon, refused))
    assert load.failures == []
    assert set(load.bodies) == {first.address, second.address}
    assert load.asked > 500 * load.seconds, f"{load.asked} in {load.seconds:.1f} s is no load"
    assert daemon.process.poll() is None


def test_reloads_during_the_start(cluster: Cluster, daemons: Daemons) -> None:
    daemon = daemons.prepare(cluster)
    with daemon.launched():
        wait_until("the signal is blocked", lambda: _blocks_sighup(daemon))
        for _ in range(50):
            daemon.process.send_signal(signal.SIGHUP)
        wait_until("it is ready", daemon.is_ready)
        wait_until("it is reloaded", lambda: "reloaded: " in daemon.log)
        assert daemon.text("/master") == cluster.primary.address


def _blocks_sighup(daemon: Daemon) -> bool:
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    (blocked,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")]
    return bool(int(blocked, 16) & 1 << (signal.SIGHUP - 1))


def test_what_is_known_of_hosts_that_stay_is_kept(
    daemon: Daemon, cluster: Cluster, write: Write
) -> None:
    """A new host that does not answer takes its time; the others are served all along."""
    addresses = [server.address for server in cluster.servers]
    write(hosts=",".join([*addresses, f"{addresses[0]}:1"]), sleep_ms=60_000)
    reload_and_wait(daemon)
    assert daemon.text("/master") == cluster.primary.address
    assert len(daemon.json("/hosts")) == 4


def test_the_command_finds_the_configuration_in_the_environment_of_the_process(
    daemon: Daemon, write: Write
) -> None:
    """Another terminal has not set it."""
    bare = {k: v for k, v in daemon.environment.items() if not k.startswith("pg_status__")}

    def reload() -> tuple[int, str, str]:
        command = [*daemon.command, "reload", "--pid", str(daemon.pid)]
        done = subprocess.run(command, env=bare, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    write(sync_max_lag_ms=500)
    assert reload() == (0, "reloaded\n", "")
    assert daemon.log.count("reloaded: ") == 1
    write(sync_max_lag_ms="never")
    status, _, error = reload()
    assert (status, daemon.log.count("reloaded: ")) == (78, 1)
    assert "pg_status__sync_max_lag_ms" in error


def test_relative_paths_are_those_in_the_directory_of_the_process(
    daemons: Daemons, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is executed in another one."""
    daemon = daemons.prepare(env_file="pg-status.env")
    hosts = ",".join(server.address for server in cluster.servers)
    lines = [
        f"pg_status__hosts={hosts}\n",
        f"pg_status__pg_port={cluster.primary.port}\n",
        "pg_status__http_token_file=tokens\n",
    ]
    env_file = tmp_path / "pg-status.env"
    env_file.write_text("".join(lines))
    tmp_path.joinpath("tokens").write_text(f"{'t' * 32}\n")
    bare = {k: v for k, v in daemon.environment.items() if not k.startswith("pg_status__")}

    def reload() -> tuple[int, str, str]:
        command = [*daemon.command, "reload", "--pid", str(daemon.pid)]
        done = subprocess.run(
            command, env=bare, cwd="/", capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    monkeypatch.chdir(tmp_path)
    with daemon.launched():
        wait_until("it is ready", daemon.is_ready)
        assert reload() == (0, "reloaded\n", "")
        env_file.unlink()
        status, _, error = reload()
    assert status == 78
    assert f"environment of process {daemon.pid}: pg_status__env_file: expected a readable" in error


@pytest.mark.parametrize(
    "command",
    [["sleep", "600"], ["tail", "-f", "/dev/null", "pg-status"],
     [sys.executable, "-m", "pgstatus", "hosts", "--watch"]],
    ids=["another program", "its last argument", "a command of pg-status"],
)  # fmt: skip
def test_the_command_does_not_end_other_processes(daemon: Daemon, command: list[str]) -> None:
    """SIGHUP would."""
    with subprocess.Popen(
        command, env=daemon.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as other:
        if "hosts" in command:
            assert other.stdout is not None
            other.stdout.readline()
        try:
            reload = [*daemon.command, "reload", "--url", daemon.url, "--pid", str(other.pid)]
            done = subprocess.run(
                reload, env=daemon.environment, capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stdout) == (1, "")
            assert f"process {other.pid} is not an instance of pg-status" in done.stderr
            assert other.poll() is None
        finally:
            other.kill()


@pytest.mark.parametrize("pid", ["0", "-1", "x", "99999999999"])
def test_the_process_is_a_positive_number(daemon: Daemon, pid: str) -> None:
    """0 and -1 would be groups of processes."""
    done = subprocess.run(
        [*daemon.command, "reload", f"--pid={pid}"],
        env=daemon.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "expected a whole number" in done.stderr


def test_limits_are_those_of_the_file(daemon: Daemon, cluster: Cluster, write: Write) -> None:
    late = cluster.replicas[0]
    late.sql("SELECT pg_wal_replay_pause()")
    try:
        cluster.primary.sql("SELECT pg_logical_emit_message(false, 'test', repeat('x', 2000000))")
        cluster.primary.sql("SELECT pg_logical_emit_message(true, 'test', 'flush')")
        wait_until("it is late", lambda: not daemon.host(late.address)["sync_by_bytes"])
        write(sync_max_lag_bytes=1_000_000_000)
        reload_and_wait(daemon)
        wait_until("that is not late now", lambda: daemon.host(late.address)["sync_by_bytes"])
    finally:
        late.sql("SELECT pg_wal_replay_resume()")


def test_reloads_during_failovers_never_go_back_to_the_old_master(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster()
    daemon = make_daemon(cluster, sleep_ms=1000)
    for _ in range(4):
        lost = cluster.primary
        answers = _answers_of_a_failover_under_reloads(cluster, daemon)
        assert answers[answers.index(cluster.primary.address) :] == [cluster.primary.address]
        cluster.rebuild(lost)
        wait_until("all is well", lambda: len(daemon.json("/replicas_info")) == 2)


def _answers_of_a_failover_under_reloads(cluster: Cluster, daemon: Daemon) -> list[str]:
    """What ``/master`` said, one after the other, until after a reload in peace."""
    answers: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = daemon.text("/master")
            if not answers or answer != answers[-1]:
                answers.append(answer)

    asking = threading.Thread(target=ask)
    asking.start()
    again_and_again = f"while kill -HUP {daemon.pid}; do sleep 0.012; done"
    reloading = subprocess.Popen(["sh", "-c", again_and_again])
    try:
        cluster.fail_over()
        wait_until("the new one is named", lambda: cluster.primary.address in answers)
        reloading.kill()
        reloading.wait()
        reload_and_wait(daemon)
    finally:
        reloading.kill()
        reloading.wait()
        stop.set()
        asking.join()
    return answers


def test_what_needs_a_restart_is_told_by_its_name(daemon: Daemon, write: Write) -> None:
    write(http_listen_address="127.0.0.1", http_port=1, http_socket_mode=600, log_format="json")
    reload_and_wait(daemon)
    for name in ("http_listen_address", "http_port", "http_socket_mode", "log_format"):
        assert f"pg_status__{name} has changed; the change takes effect after a" in daemon.log


def test_a_broken_file_is_refused_with_all_reasons(
    daemon: Daemon, cluster: Cluster, env_file: Path
) -> None:
    lines = "nonsense\npg_status__sleep_ms=soon\npg_status__pg_port=x\npg_status__host=a\n"
    env_file.write_text(lines)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until("all reasons", lambda: daemon.log.count("reload refused: ") >= 4)
    wait_until("and a hint", lambda: "did you mean pg_status__hosts?" in daemon.log)
    for reason in ("line 1", "pg_status__sleep_ms='soon'", "pg_port", "hosts is not set"):
        assert reason in daemon.log
    assert daemon.text("/master") == cluster.primary.address
    assert daemon.get("/live").headers["X-Pg-Status-Reloads"] == "1 refused"


def test_a_file_that_is_gone_is_refused(daemon: Daemon, cluster: Cluster, env_file: Path) -> None:
    env_file.unlink()
    daemon.process.send_signal(signal.SIGHUP)
    wait_until("refused", lambda: "reload refused: pg_status__env_file" in daemon.log)
    assert daemon.text("/master") == cluster.primary.address


def test_a_file_in_an_unreadable_directory_is_refused(
    daemon: Daemon, cluster: Cluster, write: Write, tmp_path: Path
) -> None:
    """A loop of links is unreadable for root, too."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for name in ("state_file", "http_token_file", "pg_password_file", "on_change"):
        write(**{name: loop / "file"})
        refused = daemon.log.count("reload refused: ")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(f"{name} is refused", partial(_has_refused_more, daemon, refused))
    assert daemon.process.poll() is None
    assert daemon.text("/master") == cluster.primary.address


def test_a_second_reload_overtakes_the_first(
    daemon: Daemon, cluster: Cluster, write: Write, network: Network
) -> None:
    """The first waits for a host that says nothing; the second does not wait for the first."""
    with socket.create_server((network.address(2), 0)) as silent:
        host, port = silent.getsockname()
        write(hosts=f"{host}:{port}", query_timeout_ms=60_000, connect_timeout=60)
        daemon.process.send_signal(signal.SIGHUP)
        silent.settimeout(10)
        connection, _ = silent.accept()
        with connection:
            write(hosts=cluster.primary.address)
            reload_and_wait(daemon)
    assert hosts_of(daemon) == {cluster.primary.address}


def test_what_needs_a_restart_is_said(daemon: Daemon, write: Write) -> None:
    write(log_format="json")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until("warned", lambda: "log_format has changed" in daemon.log)


def test_many_reloads_at_once_refuse_nothing_that_is_right(
    daemon: Daemon, cluster: Cluster, env_file: Path
) -> None:
    """Each reads the file into the environment; none sees it half done."""
    env_file.write_text(env_file.read_text() + "OTHER=x\n" * 200)
    for _ in range(60):
        daemon.process.send_signal(signal.SIGHUP)
    # As an editor does: a file that is half written would rightly be refused.
    text = env_file.read_text()
    new = env_file.with_suffix(".new")
    new.write_text(text.replace(f"={','.join(s.address for s in cluster.servers)}\n",
                                f"={cluster.primary.address}\n"))  # fmt: skip
    new.rename(env_file)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until("the last one counts", lambda: hosts_of(daemon) == {cluster.primary.address})
    assert "refused" not in daemon.log
