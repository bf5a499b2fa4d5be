"""What outlives a restart: what is believed of it, and how it is kept."""

import json
import logging
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pgstatus import clock
from pgstatus.snapshot import Failure, Observation
from pgstatus.state import Memory, Rules
from pgstatus.statefile import StateFile
from tests.support.waiting import wait_until
from tests.support.world import World, master, refused, replica

MEMORY = Memory(7_000_000_000_000_000_001, 2, frozenset({"b:5432"}))


def failed_over() -> World:
    return World().see_all(a=refused(0), b=master(0, timeline=2), c=replica(0, timeline=2))


def restarted(before: World) -> World:
    """A new world of the same hosts that was told what the one before knew."""
    after = World(rules=Rules(max_fails=1))
    assert before.state.memory is not None
    after.state = after.state.recall(before.state.memory)
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
        assert "timeline 2 has been seen" in str(world["a"].reason)

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

    def test_another_cluster_on_the_same_hosts_begins_anew(self) -> None:
        new = {"system_identifier": 42}
        world = restarted(failed_over())
        world.see_all(a=master(10, **new), b=replica(10, **new), c=replica(10, **new))
        assert world.master == "a"

    def test_of_other_hosts_nothing_is_believed(self) -> None:
        state = World().state
        assert state.recall(replace(MEMORY, witnesses=frozenset({"other:5432"}))) is state

    def test_nothing_is_kept_before_everybody_was_asked(self) -> None:
        world = World().see_all(a=master(0), b=replica(0))
        assert world.state.memory is None
        assert world.see("c", refused(0)).state.memory is not None


class TestFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "state.json"

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
            "\x00\xff",
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
        path.with_name("state.json.new").mkdir()
        caplog.set_level(logging.ERROR)
        file.offer(MEMORY)
        wait_until("it is told", lambda: "Is a directory" in caplog.text)
        path.with_name("state.json.new").rmdir()
        wait_until("it is given up for now", lambda: file._offered is None)
        file.offer(MEMORY)
        assert file._offered is None
        later = clock.now() + 60
        monkeypatch.setattr(clock, "now", lambda: later)
        file.offer(MEMORY)
        wait_until("it is written", lambda: file.read() == MEMORY)

    def test_without_a_path_nothing_is_read_or_written(self) -> None:
        file = StateFile()
        file.offer(MEMORY)
        assert file.read() is None
