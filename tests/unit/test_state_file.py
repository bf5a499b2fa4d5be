"""What survives a restart: which of it is used, and how it is stored."""

import json
import logging
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pgstatus import clock
from pgstatus.core.snapshot import Failure, Observation
from pgstatus.core.state import Memory, Rules
from pgstatus.outputs.state_file import StateFile
from tests.support.waiting import wait_until
from tests.support.world import World, master, refused, replica

MEMORY = Memory(
    7_000_000_000_000_000_001, 2, frozenset({"b:5432"}), "b:5432", frozenset({"b:5432"})
)


def failed_over() -> World:
    return World().see_all(a=refused(0), b=master(0, timeline=2), c=replica(0, timeline=2))


def restarted(before: World) -> World:
    """Another process with the same hosts and the memory of the previous one."""
    after = World(rules=Rules(max_fails=1))
    assert before.state.memory is not None
    after.state = after.state.restore(before.state.memory)
    return after


class TestRecall:
    def test_the_old_master_alone_is_not_reported(self) -> None:
        alone: dict[str, Observation | Failure] = {
            "a": master(10),
            "b": refused(10),
            "c": refused(10),
        }
        assert World().see_all(**alone).master == "a"
        world = restarted(failed_over()).see_all(**alone)
        assert world.master is None
        assert "timeline 2 exists" in str(world["a"].reason)

    def test_the_master_is_reported_when_it_returns(self) -> None:
        world = restarted(failed_over()).see_all(a=master(10), b=refused(10), c=refused(10))
        assert world.see("b", master(20, timeline=2)).master == "b"

    def test_a_reverted_promotion_is_discarded(self) -> None:
        world = restarted(failed_over())
        world.see_all(a=master(10), b=replica(10), c=replica(10)).see("a", master(15))
        assert world.master == "a"
        assert world.state.newest_timeline == 1

    def test_a_foreign_host_that_responds_first_does_not_replace_the_memory(self) -> None:
        world = restarted(failed_over()).see("c", master(10, timeline=9, system_identifier=42))
        world.see_all(a=master(10), b=refused(10))
        assert world["c"].excluded
        assert world.master is None

    def test_an_identifier_that_becomes_readable_is_not_another_cluster(self) -> None:
        """The privilege to read it may be granted later; until then no host is foreign."""
        hidden: dict[str, Any] = {"system_identifier": None}
        before = World().see_all(
            a=refused(0), b=master(0, timeline=2, **hidden), c=replica(0, timeline=2, **hidden)
        )
        assert before.state.memory is not None
        assert before.state.memory.system_identifier is None
        world = restarted(before).see("a", master(10))
        assert not world["a"].excluded
        world.see_all(b=refused(10), c=refused(10))
        assert world.master is None
        assert world.state.newest_timeline == 2

    def test_the_reported_one_of_two_masters_on_one_timeline_is_reported_again(self) -> None:
        """b was lost; c, which had not followed b, was promoted; then b returned."""
        before = World().see_all(a=refused(0), b=refused(0), c=master(0, timeline=2))
        before.see("b", master(5, timeline=2))
        assert before.master == "c"
        world = restarted(before)
        world.see_all(a=refused(10), b=master(10, timeline=2), c=master(10, timeline=2))
        assert world.master == "c"

    def test_a_new_cluster_on_the_same_hosts(self) -> None:
        new = {"system_identifier": 42}
        world = restarted(failed_over())
        world.see_all(a=master(10, **new), b=replica(10, **new), c=replica(10, **new))
        assert world.master == "a"

    def test_a_memory_of_other_hosts_is_ignored(self) -> None:
        state = World().state
        assert state.restore(replace(MEMORY, evidence=frozenset({"other:5432"}))) is state

    def test_nothing_is_stored_before_all_hosts_were_checked(self) -> None:
        world = World().see_all(a=master(0), b=replica(0))
        assert world.state.memory is None
        assert world.see("c", refused(0)).state.memory is not None


class TestFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        directory = tmp_path / "directory"
        directory.mkdir()
        return directory / "state.json"

    @pytest.fixture
    def file(self, path: Path) -> StateFile:
        file = StateFile()
        file.use(path)
        return file

    def test_the_content_after_a_restart(self, file: StateFile, path: Path) -> None:
        assert file.read() is None
        file.offer(MEMORY)
        wait_until("it is written", path.exists)
        again = StateFile()
        again.use(path)
        assert again.read() == MEMORY

    def test_the_newest_memory_is_written_last(self, file: StateFile) -> None:
        for timeline in range(3, 40):
            file.offer(replace(MEMORY, newest_timeline=timeline))
        last = replace(MEMORY, newest_timeline=39)
        wait_until("it is written", lambda: file.read() == last)

    def test_an_equal_memory_is_not_written_again(self, file: StateFile, path: Path) -> None:
        file.offer(MEMORY)
        wait_until("it is written", path.exists)
        path.unlink()
        file.offer(replace(MEMORY))
        # Only after another one has been offered would this one be left out for its sake.
        for writer in threading.enumerate():
            if writer.name == "state-file":
                writer.join()
        assert not path.exists()
        file.offer(replace(MEMORY, newest_timeline=3))
        wait_until("the other is written", path.exists)
        assert json.loads(path.read_text())["newest_timeline"] == 3

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{}",
            "[]",
            "null",
            '{"system_identifier": 1, "newest_timeline": "2", "witnesses": []}',
            '{"system_identifier": 1, "newest_timeline": 2, "witnesses": 3}',
            '{"system_identifier": 1, "newest_timeline": 2, "witnesses": [], "master": 3}',
            '{"system_identifier": 1, "newest_timeline": 2, "evidence": [1]}',
            '{"system_identifier": 1, "newest_timeline": true, "evidence": []}',
            '{"system_identifier": 1, "newest_timeline": 0, "evidence": []}',
            '{"system_identifier": 1, "newest_timeline": 4294967296, "evidence": []}',
            '{"system_identifier": 1e999, "newest_timeline": 2, "evidence": []}',
            '{"system_identifier": 1, "newest_timeline": ' + "9" * 5000 + ', "evidence": []}',
            "\x00\xff",
            "[" * 100_000,
        ],
    )
    def test_invalid_content_is_logged_and_replaced(
        self, file: StateFile, path: Path, text: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        path.write_text(text, "latin-1")
        assert file.read() is None
        assert "ignored, it will be replaced" in caplog.text
        file.offer(MEMORY)
        wait_until("it is replaced", lambda: file.read() == MEMORY)

    def test_a_failed_write_is_logged_and_repeated_after_a_minute(
        self,
        file: StateFile,
        path: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path.parent.rmdir()
        caplog.set_level(logging.ERROR)
        file.offer(MEMORY)
        wait_until("it is logged", lambda: "No such file or directory" in caplog.text)
        path.parent.mkdir()
        file.offer(MEMORY)
        assert not path.exists()
        later = clock.now() + 60
        monkeypatch.setattr(clock, "now", lambda: later)
        file.offer(MEMORY)
        wait_until("it is written", lambda: file.read() == MEMORY)

    def test_a_symbolic_link_is_kept(self, file: StateFile, path: Path, tmp_path: Path) -> None:
        path.symlink_to(tmp_path / "elsewhere.json")
        file.offer(MEMORY)
        wait_until("it is written", lambda: file.read() == MEMORY)
        assert path.is_symlink()
        assert list(path.parent.iterdir()) == [path]

    def test_two_instances_with_the_same_file(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        files = [StateFile(), StateFile()]
        for file in files:
            file.use(path)
        for timeline in range(3, 60):
            for file in files:
                file.offer(replace(MEMORY, newest_timeline=timeline))
        last = replace(MEMORY, newest_timeline=59)
        wait_until("it is written", lambda: all(file.read() == last for file in files))
        assert caplog.text == ""

    def test_a_file_of_an_earlier_version(self, file: StateFile, path: Path) -> None:
        path.write_text('{"system_identifier": 1, "newest_timeline": 2, "witnesses": ["b:5432"]}')
        assert file.read() == Memory(1, 2, frozenset({"b:5432"}), None)

    def test_without_a_path_nothing_is_read_or_written(self) -> None:
        file = StateFile()
        file.offer(MEMORY)
        assert file.read() is None

    def test_the_temporary_file_of_a_process_that_was_killed_is_removed(
        self, file: StateFile, path: Path
    ) -> None:
        leftover, in_use = (path.with_name(f".state.json.{name}.tmp") for name in ("old", "new"))
        for temporary in (leftover, in_use):
            temporary.write_text("{")
        os.utime(leftover, (0, 0))
        other = path.with_name("state.json.bak")
        other.write_text("the administrator's own")
        os.utime(other, (0, 0))
        file.offer(MEMORY)
        wait_until("it is written", path.exists)
        assert set(path.parent.iterdir()) == {path, in_use, other}

    def test_the_mode(self, file: StateFile, path: Path) -> None:
        file.offer(MEMORY)
        wait_until("it is written", path.exists)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.parametrize("kind", ["loop", "FIFO", "directory", "huge", "device"])
    def test_anything_but_a_readable_file_is_logged_and_ignored(
        self, kind: str, file: StateFile, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        match kind:
            case "loop":
                path.symlink_to(path)
            case "FIFO":
                os.mkfifo(path)
            case "directory":
                path.mkdir()
            case "huge":
                with path.open("wb") as huge:
                    huge.truncate(1 << 40)
            case "device":
                path.symlink_to("/dev/zero")
        assert file.read() is None
        assert caplog.text.count("ignored") == 1
        if kind in {"loop", "FIFO", "directory", "device"}:
            file.offer(MEMORY)
            wait_until("it is logged", lambda: "cannot be written" in caplog.text)

    def test_a_thread_that_cannot_be_started_is_started_later(
        self,
        file: StateFile,
        path: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        path.write_bytes(b'{"system_identifier": 1, "newest_timeline": 2, "evidence": []}')
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            assert file.read() == Memory(1, 2, frozenset(), None)
            file.offer(MEMORY)
            assert "can't start new thread" in caplog.text
        later = clock.now() + 60
        monkeypatch.setattr(clock, "now", lambda: later)
        file.offer(MEMORY)
        wait_until("it is written", lambda: file.read() == MEMORY)

    def test_a_lasting_failure_is_logged_once(
        self,
        file: StateFile,
        path: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path.parent.rmdir()
        for attempt in range(3):
            later = 1e9 + 60 * attempt
            monkeypatch.setattr(clock, "now", lambda later=later: later)
            file.offer(MEMORY)
            for writer in threading.enumerate():
                if writer.name == "state-file":
                    writer.join()
        assert caplog.text.count("cannot be written") == 1
