"""What only happens when two things happen at the same moment, or the machine refuses."""

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


def told(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_a_command_that_was_away_is_not_told_what_was_so_when_it_left(
    hook: Hook, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    hook.use(noting(notes))
    hook.offer(naming("old"))
    wait_until("it is told", lambda: hook.runs["ok"])
    hook.use(None)
    hook.offer(naming("new"))
    hook.use(noting(notes))
    assert not hook.is_pending, "nothing is known yet that it could be told"
    hook.offer(naming("new"))
    wait_until("it is told", lambda: hook.runs["ok"] == 2)
    assert told(notes) == ["old", "new"]


@pytest.mark.parametrize("status", [0, 1])
def test_what_a_run_leaves_in_the_background_ends_with_it(
    hook: Hook, tmp_path: Path, status: int
) -> None:
    """Or there would be one more of it after every change."""
    gate, pid = tmp_path / "gate", tmp_path / "pid"
    os.mkfifo(gate)
    hook.use(shell(f"cat {gate} & echo $! > {pid}; exit {status}"))
    hook.offer(naming("a"))
    wait_until("it has run", lambda: hook.runs["ok"] + hook.runs["failed"])
    left_over = int(pid.read_text())
    wait_until("it is gone", lambda: not Path(f"/proc/{left_over}/cmdline").exists())


@pytest.mark.parametrize("status", [0, 1])
def test_the_end_of_the_old_command_is_not_taken_for_that_of_the_new_one(
    hook: Hook, tmp_path: Path, status: int
) -> None:
    gate, notes = tmp_path / "gate", tmp_path / "notes"
    os.mkfifo(gate)
    hook.use(shell(f"cat {gate}; exit {status}"))
    hook.offer(naming("a"))
    with gate.open("w"):  # it runs
        hook.use(noting(notes))
        hook.offer(naming("a"))
    wait_until("the new one is told", lambda: told(notes) == ["a"])
    wait_until("it is known", lambda: not hook.is_pending)


def test_a_machine_without_room_for_another_file_is_a_failure_like_any_other(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", refuse)
    hook.use(noting(tmp_path / "notes"))
    hook.offer(naming("a"))
    wait_until("it has failed", lambda: hook.runs["failed"])
    monkeypatch.undo()
    wait_until("it is tried again", lambda: told(tmp_path / "notes") == ["a"])


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # nobody waits for it
def test_a_command_that_may_not_be_ended_is_given_up(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that became another account's, by sudo."""
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
    wait_until("there is another run", lambda: told(tmp_path / "notes") == ["a"])


def test_a_command_that_starts_while_all_ends_is_gone_when_stop_returns(
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
    # `stop` looks for a process before there is one.
    threading.Timer(0.2, stopping.set).start()
    hook.stop()
    assert started[0].poll() is not None
