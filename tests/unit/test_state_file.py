"""What outlives a restart: what is believed of it, and how it is kept."""

import json
import logging
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
    """A new world of the same hosts that was told what the one before knew."""
    after = World(rules=Rules(max_fails=1))
    assert before.state.memory is not None
    after.state = after.state.restore(before.state.memory)
    return after


class TestRecall:
    def test_the_old_master_alone_is_not_named(self) -> None:
        alone: dict[str, Observation | Failure] = {
            "a": master(10),
            "b": refused(10),
            "c": refused(10),
        }
        assert World().see_all(**alone).master == "a"
        world = restarted(failed_over()).see_all(**alone)
        assert world.master is None
        assert "timeline 2 exists" in str(world["a"].reason)

    def test_the_right_one_is_named_when_it_comes_back(self) -> None:
        world = restarted(failed_over()).see_all(a=master(10), b=refused(10), c=refused(10))
        assert world.see("b", master(20, timeline=2)).master == "b"

    def test_an_undone_promotion_is_forgotten(self) -> None:
        world = restarted(failed_over())
        world.see_all(a=master(10), b=replica(10), c=replica(10)).see("a", master(15))
        assert world.master == "a"
        assert world.state.newest_timeline == 1

    def test_a_stranger_that_answers_first_does_not_wipe_it_out(self) -> None:
        world = restarted(failed_over()).see("c", master(10, timeline=9, system_identifier=42))
        world.see_all(a=master(10), b=refused(10))
        assert world["c"].excluded
        assert world.master is None

    def test_an_identifier_that_can_be_read_only_now_is_no_other_cluster(self) -> None:
        """A role may be given the right to read it, and nobody is a stranger before that."""
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

    def test_who_was_named_of_two_on_one_timeline_is_named_again(self) -> None:
        """b was lost and c promoted, which had not followed b; then b came back."""
        before = World().see_all(a=refused(0), b=refused(0), c=master(0, timeline=2))
        before.see("b", master(5, timeline=2))
        assert before.master == "c"
        world = restarted(before)
        world.see_all(a=refused(10), b=master(10, timeline=2), c=master(10, timeline=2))
        assert world.master == "c"

    def test_another_cluster_on_the_same_hosts_begins_anew(self) -> None:
        new = {"system_identifier": 42}
        world = restarted(failed_over())
        world.see_all(a=master(10, **new), b=replica(10, **new), c=replica(10, **new))
        assert world.master == "a"

    def test_of_other_hosts_nothing_is_believed(self) -> None:
        state = World().state
        assert state.restore(replace(MEMORY, evidence=frozenset({"other:5432"}))) is state

    def test_nothing_is_kept_before_everybody_was_asked(self) -> None:
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

    def test_what_was_offered_is_read_after_a_restart(self, file: StateFile, path: Path) -> None:
        assert file.read() is None
        file.offer(MEMORY)
        wait_until("it is written", path.exists)
        again = StateFile()
        again.use(path)
        assert again.read() == MEMORY

    def test_the_newest_stays(self, file: StateFile) -> None:
        for timeline in range(3, 40):
            file.offer(replace(MEMORY, newest_timeline=timeline))
        last = replace(MEMORY, newest_timeline=39)
        wait_until("it is written", lambda: file.read() == last)

    def test_what_has_not_changed_is_not_written_again(self, file: StateFile, path: Path) -> None:
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
            "\x00\xff",
            "[" * 100_000,
        ],
    )
    def test_what_cannot_be_understood_is_told_and_replaced(
        self, file: StateFile, path: Path, text: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        path.write_text(text, "latin-1")
        assert file.read() is None
        assert "cannot be used and will be replaced" in caplog.text
        file.offer(MEMORY)
        wait_until("it is replaced", lambda: file.read() == MEMORY)

    def test_what_cannot_be_written_is_told_and_tried_again(
        self,
        file: StateFile,
        path: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path.parent.rmdir()
        caplog.set_level(logging.ERROR)
        file.offer(MEMORY)
        wait_until("it is told", lambda: "No such file or directory" in caplog.text)
        path.parent.mkdir()
        wait_until("it is given up for now", lambda: file._offered is None)
        file.offer(MEMORY)
        assert file._offered is None
        later = clock.now() + 60
        monkeypatch.setattr(clock, "now", lambda: later)
        file.offer(MEMORY)
        wait_until("it is written", lambda: file.read() == MEMORY)

    def test_a_link_stays_a_link(self, file: StateFile, path: Path, tmp_path: Path) -> None:
        path.symlink_to(tmp_path / "elsewhere.json")
        file.offer(MEMORY)
        wait_until("it is written", lambda: file.read() == MEMORY)
        assert path.is_symlink()
        assert list(path.parent.iterdir()) == [path]

    def test_two_who_share_a_file_do_not_get_in_each_others_way(
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

    def test_a_file_of_before_who_was_named_was_kept(self, file: StateFile, path: Path) -> None:
        path.write_text('{"system_identifier": 1, "newest_timeline": 2, "witnesses": ["b:5432"]}')
        assert file.read() == Memory(1, 2, frozenset({"b:5432"}), None)

    def test_without_a_path_nothing_is_read_or_written(self) -> None:
        file = StateFile()
        file.offer(MEMORY)
        assert file.read() is None
