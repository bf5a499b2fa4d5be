"""The `on_change` command when two events coincide, or when the machine refuses a resource."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgstatus.core.snapshot import Host, HostStatus, Role, Snapshot
from pgstatus.outputs.hook import Hook
from pgstatus.settings.command import Command
from tests.support.waiting import wait_until


def naming(master: str) -> Snapshot:
    status = HostStatus(Host(master, 5432), role=Role.MASTER, master=True, alive=True)
    return Snapshot((status,), ready=True)


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.stop()


def shell(line: str, limit: float = 30) -> Command:
    return Command(("sh", "-c", line), limit)


def noting(path: Path, before: str = "") -> Command:
    return shell(f'{before} echo "$PG_STATUS_MASTER" >> {path}')


def received(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_a_command_that_is_configured_again_does_not_receive_the_state_of_before(
    hook: Hook, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    hook.use(noting(notes))
    hook.offer(naming("old"))
    wait_until("it has run", lambda: hook.runs["ok"])
    hook.use(None)
    hook.offer(naming("new"))
    hook.use(noting(notes))
    assert not hook.is_pending, "there is no snapshot that it could receive yet"
    hook.offer(naming("new"))
    wait_until("it has run", lambda: hook.runs["ok"] == 2)
    assert received(notes) == ["old", "new"]


@pytest.mark.parametrize("status", [0, 1])
def test_background_processes_of_a_run_end_with_it(hook: Hook, tmp_path: Path, status: int) -> None:
    """Otherwise there would be one more after every change."""
    gate, pid = tmp_path / "gate", tmp_path / "pid"
    os.mkfifo(gate)
    hook.use(shell(f"cat {gate} & echo $! > {pid}; exit {status}"))
    hook.offer(naming("a"))
    wait_until("it has run", lambda: hook.runs["ok"] + hook.runs["failed"])
    left_over = int(pid.read_text())
    wait_until("it is gone", lambda: not Path(f"/proc/{left_over}/cmdline").exists())


@pytest.mark.parametrize("status", [0, 1])
def test_the_end_of_the_old_command_is_not_taken_for_the_end_of_the_new_one(
    hook: Hook, tmp_path: Path, status: int
) -> None:
    gate, notes = tmp_path / "gate", tmp_path / "notes"
    os.mkfifo(gate)
    hook.use(shell(f"cat {gate}; exit {status}"))
    hook.offer(naming("a"))
    with gate.open("w"):  # it runs
        hook.use(noting(notes))
        hook.offer(naming("a"))
    wait_until("the new one has run", lambda: received(notes) == ["a"])
    wait_until("it is known", lambda: not hook.is_pending)


def test_a_shortage_of_descriptors_is_a_failed_run(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", refuse)
    hook.use(noting(tmp_path / "notes"))
    hook.offer(naming("a"))
    wait_until("it has failed", lambda: hook.runs["failed"])
    monkeypatch.undo()
    wait_until("it is tried again", lambda: received(tmp_path / "notes") == ["a"])


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the process is not waited for
def test_a_command_that_cannot_be_terminated_is_abandoned(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs under another account, by sudo."""
    started: list[int] = []

    def refuse(pid: int, signum: int) -> None:
        started.append(pid)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "killpg", refuse)
    hook.use(shell("sleep 60", limit=0.1))
    hook.offer(naming("a"))
    wait_until("it is over", lambda: hook.runs["timeout"])
    monkeypatch.undo()
    os.killpg(started[0], signal.SIGKILL)
    hook.use(noting(tmp_path / "notes"))
    hook.offer(naming("a"))
    wait_until("there is another run", lambda: received(tmp_path / "notes") == ["a"])


def test_a_command_that_starts_during_stop_is_gone_when_stop_returns(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def slowly(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        starting.set()
        stopping.wait(10)
        process = popen(*arguments, **options)  # type: ignore[call-overload]
        started.append(process)
        return process  # type: ignore[no-any-return]

    starting, stopping = threading.Event(), threading.Event()
    monkeypatch.setattr(subprocess, "Popen", slowly)
    hook.use(shell("trap '' TERM; sleep 60; sleep 60"))
    hook.offer(naming("a"))
    assert starting.wait(10)
    # `stop` begins before there is a process.
    threading.Timer(0.2, stopping.set).start()
    hook.stop()
    assert started[0].poll() is not None


def test_a_command_that_is_configured_again_during_its_run_runs_again(
    hook: Hook, tmp_path: Path
) -> None:
    """A to B to A, before the first run of A has ended."""
    gate, notes = tmp_path / "gate", tmp_path / "notes"
    os.mkfifo(gate)
    first = shell(f'cat {gate}; echo "$PG_STATUS_MASTER" >> {notes}')
    hook.use(first)
    hook.offer(naming("old"))
    with gate.open("w"):  # it runs
        hook.use(noting(tmp_path / "other"))
        hook.use(first)
    wait_until("the first run has ended", lambda: hook.runs["ok"] == 1)
    hook.offer(naming("new"))
    gate.open("w").close()
    wait_until("it runs again", lambda: received(notes) == ["old", "new"])
    wait_until("nothing is pending", lambda: not hook.is_pending)
    assert received(tmp_path / "other") == []


def test_a_thread_that_cannot_be_started_is_started_later_and_logged_once(
    hook: Hook,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    hook.use(noting(tmp_path / "notes"))
    for _ in range(3):
        hook.offer(naming("a"))
    assert hook.is_pending
    assert caplog.text.count("can't start new thread") == 1
    monkeypatch.undo()
    hook.offer(naming("a"))
    wait_until("it runs", lambda: received(tmp_path / "notes") == ["a"])


def test_the_same_snapshot_starts_the_thread_that_was_missing(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be no further change for days."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    snapshot = naming("a")
    hook.use(noting(tmp_path / "notes"))
    hook.offer(snapshot)
    monkeypatch.undo()
    hook.offer(snapshot)
    wait_until("it runs", lambda: received(tmp_path / "notes") == ["a"])


def test_a_deleted_working_directory(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "deleted"
    directory.mkdir()
    monkeypatch.chdir(directory)
    directory.rmdir()
    hook.use(shell(f"pwd >> {tmp_path / 'notes'}"))
    hook.offer(naming("a"))
    wait_until("it runs", lambda: received(tmp_path / "notes") == ["/"])
