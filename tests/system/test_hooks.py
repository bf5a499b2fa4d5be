"""`on_change`: a command receives every change, in a real daemon with real clusters."""

import itertools
import os
import re
import resource
import signal
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster, Server
from tests.conftest import ClusterFactory, DaemonFactory, Daemons
from tests.support.daemon import Daemon
from tests.support.recorder import Recorder, Run
from tests.support.waiting import wait_until

_METRIC = re.compile(
    r'^pg_status_hook_(?:runs_total\{result="(\w+)"\}|(pending)) (\d+)\.0$', re.MULTILINE
)


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


def metrics(daemon: Daemon) -> dict[str, int]:
    """``ok``, ``failed``, ``timeout`` and ``pending``."""
    found = _METRIC.findall(daemon.text("/metrics"))
    return {result or pending: int(value) for result, pending, value in found}


def address(server: Server) -> str:
    return f"{server.address}:{server.port}"


def addresses(*servers: Server) -> set[str]:
    return {address(server) for server in servers}


def received(recorder: Recorder, **facts: set[str]) -> Run | None:
    """The last run if its input was ``MASTER={…}, SYNC_REPLICAS={…}``."""
    run = recorder.last
    if run is None:
        return None
    return run if all(run.words(name) == expected for name, expected in facts.items()) else None


def wait_until_received(recorder: Recorder, **facts: set[str]) -> Run:
    what = f"it receives {facts}"
    run = wait_until(what, lambda: received(recorder, **facts))
    assert run is not None
    return run


def wait_until_in_sync(recorder: Recorder, cluster: Cluster) -> Run:
    return wait_until_received(
        recorder,
        MASTER={cluster.primary.address},
        SYNC_REPLICAS=addresses(*cluster.replicas),
    )


def wait_for_checks(daemon: Daemon, server: Server) -> None:
    """Wait for five checks."""
    moments = {daemon.host(server.address)["checked_at"]}

    def another() -> bool:
        moments.add(daemon.host(server.address)["checked_at"])
        return len(moments) > 5

    wait_until("the hosts are checked", another)


def is_gone(pid: int) -> bool:
    """It has ended; its exit status may not have been collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_first_run_is_after_the_first_check_of_all_hosts(
    cluster: Cluster, daemons: Daemons, recorder: Recorder
) -> None:
    daemon = daemons.prepare(cluster, on_change=f"{recorder.command} --quiet 'two words'")
    daemon.environment["pg_status__pg_password"] = "postgres"
    daemon.environment["PG_STATUS__HTTP_PORT"] = "as 1.0 might have it"
    daemon.environment["OF_MY_OWN"] = "kept"
    with daemon:
        run = wait_until_in_sync(recorder, cluster)
        first = recorder.runs[0]
        assert first.arguments == ["--quiet", "two words"]
        assert first["CHANGES"] == "master replicas sync split_brain"
        assert run["MASTER"] == cluster.primary.address
        assert run["MASTER_PORT"] == str(cluster.primary.port)
        assert run["SPLIT_BRAIN"] == ""
        # Without the variables of pg-status, which contain passwords.
        assert run.environment["OF_MY_OWN"] == "kept"
        assert [name for name in run.environment if name.lower().startswith("pg_status__")] == []
        runs = len(recorder.runs)
        wait_for_checks(daemon, cluster.primary)
        assert len(recorder.runs) == runs, "nothing has changed"
        assert metrics(daemon) == {"ok": runs, "failed": 0, "timeout": 0, "pending": 0}


def test_standard_input_agrees_with_the_environment(
    cluster: Cluster, make_daemon: DaemonFactory, recorder: Recorder
) -> None:
    daemon = make_daemon(cluster, on_change=recorder.command)
    run = wait_until_in_sync(recorder, cluster)
    report = run.report
    assert report["changes"] == run["CHANGES"].split()
    assert report["master"]["host"] == run["MASTER"]
    assert report["master"]["port"] == int(run["MASTER_PORT"])
    assert report["no_master"] is None
    assert report["masters"] == [address(cluster.primary)]
    replicas = {f"{h['host']}:{h['port']}" for h in report["hosts"] if h["role"] == "replica"}
    assert replicas == run.words("REPLICAS")
    assert [set(host) for host in report["hosts"]] == [set(host) for host in daemon.json("/hosts")]


def test_a_failover_and_a_late_replica(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, recorder: Recorder
) -> None:
    cluster = make_cluster()
    late, heir = cluster.replicas
    make_daemon(cluster, on_change=recorder.command, sync_max_lag_bytes=100_000)
    wait_until_in_sync(recorder, cluster)

    late.sql("SELECT pg_wal_replay_pause()")
    cluster.primary.sql("SELECT pg_logical_emit_message(true, 'x', repeat('x', 1000000))")
    run = wait_until_received(recorder, SYNC_REPLICAS=addresses(heir))
    assert run["CHANGES"] == "sync"
    assert run.words("REPLICAS") == addresses(late, heir)
    late.sql("SELECT pg_wal_replay_resume()")
    run = wait_until_received(recorder, SYNC_REPLICAS=addresses(late, heir))
    assert run["CHANGES"] == "sync"

    seen = len(recorder.runs)
    cluster.primary.crash()
    none = wait_until_received(recorder, MASTER=set())
    assert none["MASTER_PORT"] == ""
    assert none.report["master"] is None
    assert none.report["no_master"]
    cluster.promote(heir)
    late.follow(heir)
    wait_until_received(recorder, MASTER={heir.address}, SYNC_REPLICAS=addresses(late))
    after = recorder.runs[seen:]
    promoted = next(run for run in after if run["MASTER"] == heir.address)
    assert "master" in promoted["CHANGES"].split()
    # It never names one for the other on the way.
    assert [name for name, _ in itertools.groupby(run["MASTER"] for run in after)][-2:] == [
        "",
        heir.address,
    ]


def test_a_split_brain(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, recorder: Recorder
) -> None:
    cluster = make_cluster(replicas=1)
    old, heir = cluster.servers
    make_daemon(cluster, on_change=recorder.command, split_brain="none")
    wait_until_in_sync(recorder, cluster)
    cluster.promote(heir)
    run = wait_until_received(recorder, SPLIT_BRAIN=addresses(old, heir))
    assert {"master", "split_brain"} <= set(run["CHANGES"].split())
    assert run["MASTER"] == ""
    assert set(run.report["masters"]) == addresses(old, heir)
    old.crash()
    wait_until_received(recorder, SPLIT_BRAIN=set(), MASTER={heir.address})


def test_changes_during_a_run_lead_to_one_run_with_the_newest_state(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, tmp_path: Path
) -> None:
    cluster = make_cluster()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    recorder = Recorder(tmp_path)
    daemon = make_daemon(cluster, on_change=recorder.command)
    wait_until_in_sync(recorder, cluster)
    recorder.then(f"open({str(gate)!r}).read()")
    gone, other = cluster.replicas

    gone.crash()
    blocked = wait_until_received(recorder, REPLICAS=addresses(other))
    before = len(recorder.runs)
    gone.start()
    wait_until("one change", lambda: daemon.host(gone.address)["sync_by_time"])
    other.crash()
    wait_until("another one", lambda: not daemon.host(other.address)["alive"])
    assert len(recorder.runs) == before
    assert metrics(daemon)["pending"] == 1
    # Neither is held up by the command: the two changes were seen, and are answered.
    assert daemon.text("/replica") == gone.address

    recorder.then("")
    gate.write_text("")
    run = wait_until_received(recorder, REPLICAS=addresses(gone))
    assert set(run["CHANGES"].split()) == {"replicas", "sync"}, "in relation to the blocked run"
    assert blocked.words("SYNC_REPLICAS") == addresses(other)
    wait_until("nothing is pending", lambda: metrics(daemon)["pending"] == 0)
    assert len(recorder.runs) == before + 1
    assert metrics(daemon)["ok"] == before + 1


def test_the_time_limit_ends_all_processes_even_if_they_ignore_sigterm(
    cluster: Cluster, make_daemon: DaemonFactory, tmp_path: Path
) -> None:
    children = tmp_path / "children"
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"
    recorder = Recorder(
        tmp_path,
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([sys.executable, '-SEc', {deaf!r}])\n"
        f"with open({str(children)!r}, 'a') as file: print(child.pid, file=file)\n"
        "child.wait()",
    )
    daemon = make_daemon(cluster, on_change=recorder.command, on_change_timeout_ms=1000)
    wait_until("it is over", lambda: metrics(daemon)["timeout"] == 1)
    (child,) = (int(pid) for pid in children.read_text().split()[:1])
    assert is_gone(recorder.runs[0].pid)
    wait_until("its child is gone, too", lambda: is_gone(child))
    assert f"{recorder.command} exceeded 1 s and was terminated" in daemon.log
    recorder.then("")
    wait_until("it is tried again", lambda: metrics(daemon)["ok"] == 1)
    assert metrics(daemon) == {"ok": 1, "failed": 0, "timeout": 1, "pending": 0}


def test_a_failed_run_is_repeated_with_growing_pauses_and_at_once_after_a_change(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, tmp_path: Path
) -> None:
    cluster = make_cluster(replicas=1)
    (replica,) = cluster.replicas
    recorder = Recorder(tmp_path)
    daemon = make_daemon(cluster, on_change=recorder.command)
    wait_until_in_sync(recorder, cluster)
    recorder.then("sys.exit(3)")
    before = len(recorder.runs)
    replica.crash()
    wait_until_received(recorder, REPLICAS=set())

    def repeated(times: int) -> list[Run]:
        newest = [run for run in recorder.runs[before:] if run["REPLICAS"] == ""]
        return newest if len(newest) > times else []

    tries = wait_until("it is tried again and again", lambda: repeated(3), timeout=30)
    pauses = [after.at - run.at for run, after in itertools.pairwise(tries)]
    # Lower bounds, because the machine may be busy.
    assert all(pause >= least for pause, least in zip(pauses, (1, 2, 4), strict=False)), pauses
    assert tries[1]["CHANGES"] == "master replicas sync split_brain", "its knowledge is unknown"
    assert metrics(daemon)["pending"] == 1
    assert "failed with exit status 3" in daemon.log
    failed = len(recorder.runs) - before

    replica.start()
    recorder.then("")
    wait_until_received(recorder, REPLICAS=addresses(replica))
    wait_until_in_sync(recorder, cluster)
    wait_until("nothing is pending", lambda: metrics(daemon)["pending"] == 0)
    assert metrics(daemon)["failed"] >= failed


def test_a_command_that_hangs_delays_neither_checks_nor_responses(
    cluster: Cluster, make_daemon: DaemonFactory, tmp_path: Path
) -> None:
    recorder = Recorder(tmp_path, "time.sleep(3600)")
    daemon = make_daemon(cluster, on_change=recorder.command)
    wait_until("it runs", lambda: recorder.last)
    wait_for_checks(daemon, cluster.primary)
    assert daemon.text("/master") == cluster.primary.address
    assert not is_gone(recorder.runs[0].pid)
    assert len(recorder.runs) == 1


@pytest.mark.parametrize(
    ("how", "connections"),
    [
        (signal.SIGTERM, "no connection open"),
        (signal.SIGINT, "no connection open"),
        (signal.SIGINT, "a connection open"),
        (signal.SIGTERM, "a connection open"),
    ],
)
def test_a_command_that_hangs_ends_with_the_daemon(
    cluster: Cluster,
    make_daemon: DaemonFactory,
    tmp_path: Path,
    how: signal.Signals,
    connections: str,
) -> None:
    recorder = Recorder(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(3600)")
    daemon = make_daemon(cluster, on_change=recorder.command)
    wait_until("it runs", lambda: recorder.last)
    pid = recorder.runs[0].pid
    if connections == "no connection open":
        daemon.client.close()
    assert daemon.stop(how) == 0
    try:
        wait_until("it is gone", lambda: is_gone(pid))
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        raise


def test_a_shortage_of_descriptors(
    cluster: Cluster, make_daemon: DaemonFactory, tmp_path: Path
) -> None:
    """The command is started when descriptors are available again."""
    recorder = Recorder(tmp_path)
    daemon = make_daemon(cluster, on_change=recorder.command)
    wait_until_in_sync(recorder, cluster)
    wait_until("nothing is pending", lambda: metrics(daemon)["pending"] == 0)
    pid = daemon.pid
    open_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files, before[1]))
    late = cluster.replicas[0]
    late.sql("SELECT pg_wal_replay_pause()")
    try:
        cluster.primary.sql("SELECT pg_logical_emit_message(true, 'test', 'x')")
        wait_until("it has failed", lambda: "on_change: next attempt in" in daemon.log)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        wait_until("it runs later", lambda: address(late) not in _in_sync(recorder))
    finally:
        late.sql("SELECT pg_wal_replay_resume()")


def _in_sync(recorder: Recorder) -> set[str]:
    assert recorder.last is not None
    return recorder.last.words("SYNC_REPLICAS")


@pytest.mark.parametrize("change", ["another", "none, then it again"])
def test_a_reload_with_another_command_runs_it(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, tmp_path: Path, change: str
) -> None:
    """Also a command that was configured before and has missed changes since."""
    cluster = make_cluster(replicas=1)
    (heir,) = cluster.replicas
    recorder = Recorder(tmp_path)
    env_file = tmp_path / "pg-status.env"

    def reload(command: str) -> None:
        env_file.write_text(f"pg_status__on_change={command}\n")
        before = daemon.log.count("reloaded: ")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until("reloaded", lambda: daemon.log.count("reloaded: ") > before)

    env_file.write_text(f"pg_status__on_change={recorder.command} one\n")
    daemon = make_daemon(cluster, env_file=env_file)
    wait_until_in_sync(recorder, cluster)
    wait_until("nothing is pending", lambda: metrics(daemon)["pending"] == 0)
    runs = len(recorder.runs)

    if change == "another":
        reload(f"{recorder.command} one")
        reload(f"{recorder.command} two")
        wait_until("it runs", lambda: len(recorder.runs) > runs)
        assert [run.arguments for run in recorder.runs[runs:]] == [["two"]], "none for the same one"
    else:
        reload("")
        cluster.primary.crash()
        cluster.promote(heir)
        wait_until("a failover", lambda: daemon.text("/master") == heir.address)
        assert len(recorder.runs) == runs
        reload(f"{recorder.command} one")
        wait_until("it runs", lambda: len(recorder.runs) > runs)
        assert recorder.runs[runs]["MASTER"] == heir.address
    assert recorder.runs[runs]["CHANGES"] == "master replicas sync split_brain"


def test_a_new_command_runs_after_the_old_one_has_ended(
    cluster: Cluster, make_daemon: DaemonFactory, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    recorder = Recorder(tmp_path, f"if sys.argv[1] == 'old': open({str(gate)!r}).read()")
    env_file = tmp_path / "pg-status.env"
    env_file.write_text(f"pg_status__on_change={recorder.command} old\n")
    daemon = make_daemon(cluster, env_file=env_file)
    wait_until("the old one runs", lambda: recorder.last)
    env_file.write_text(f"pg_status__on_change={recorder.command} new\n")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until("reloaded", lambda: "reloaded: " in daemon.log)
    assert [run.arguments for run in recorder.runs] == [["old"]], "one run at a time"
    gate.write_text("")
    wait_until("the new one runs", lambda: recorder.runs[-1].arguments == ["new"])
    wait_until("nothing is pending", lambda: metrics(daemon)["pending"] == 0)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("sh -c 'exit 0", "No closing quotation"),
        ("/nowhere/follow --now", "'/nowhere/follow': no such program"),
        ("/dev/null", "'/dev/null': no such program, or not executable"),
        ("  ", "'  ': no such program"),
    ],
)
def test_a_command_that_cannot_be_started_is_a_configuration_error(
    daemons: Daemons, command: str, reason: str
) -> None:
    daemon = daemons.prepare(hosts="127.0.0.1", on_change=command)
    daemon.launch()
    assert daemon.process.wait(60) == os.EX_CONFIG
    assert "pg-status: error: pg_status__on_change: expected a command" in daemon.log
    assert reason in daemon.log


def test_a_program_that_is_missing_for_a_while(
    cluster: Cluster, make_daemon: DaemonFactory, tmp_path: Path
) -> None:
    recorder = Recorder(tmp_path, "sys.exit(1)")
    daemon = make_daemon(cluster, on_change=recorder.command)
    wait_until("it has run", lambda: recorder.last)
    program = Path(recorder.command)
    program.rename(tmp_path / "elsewhere")
    wait_until("it is logged", lambda: "cannot be started" in daemon.log)
    (tmp_path / "elsewhere").rename(program)
    recorder.then("")
    wait_until("it is found", lambda: metrics(daemon)["ok"] == 1)


def test_without_a_command_nothing_is_pending(daemon: Daemon) -> None:
    assert metrics(daemon) == {"ok": 0, "failed": 0, "timeout": 0, "pending": 0}
