"""The history has one line per failover."""

import logging
from datetime import timedelta

from pgstatus.core.changes import Change, Event
from pgstatus.telemetry.history import Entry
from pgstatus.telemetry.incidents import Incident, incidents
from tests.support.world import NOON


class Story:
    """Changes at certain seconds, and the lines that result."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._last_master: str | None = None

    def add(
        self, seconds: float, change: Change, host: str | None, text: str = "", **more: object
    ) -> None:
        event = Event(change, host, text or f"{host} {change}", **more)  # type: ignore[arg-type]
        former = self._last_master if change is Change.MASTER else None
        self.entries.append(Entry(NOON + timedelta(seconds=seconds), event, former))
        if change is Change.MASTER:
            self._last_master = host or former

    def start(self) -> None:
        self.add(0, Change.HEALTH, "a")
        self.add(0.1, Change.MASTER, "a", "a is now the master (timeline 1)", timeline=1)
        self.add(0.2, Change.HEALTH, "b")

    def trouble(self, seconds: float, host: str, text: str = "dead") -> None:
        self.add(seconds, Change.HEALTH, host, f"{host} is {text}", level=logging.WARNING)

    def no_master(self, seconds: float, reason: str = "no live host is a master") -> None:
        self.add(seconds, Change.MASTER, None, f"no master: {reason}", level=logging.WARNING)

    def master(self, seconds: float, host: str, timeline: int = 2) -> None:
        self.add(seconds, Change.MASTER, host, f"{host} is now the master", timeline=timeline)

    @property
    def lines(self) -> tuple[Incident, ...]:
        return incidents(self.entries)

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.lines]


def started() -> Story:
    story = Story()
    story.start()
    return story


def test_no_changes() -> None:
    assert Story().lines == ()


def test_the_start_is_one_line() -> None:
    (line,) = started().lines
    assert (line.change, line.text) == ("master", "a is now the master (timeline 1)")
    assert len(line.entries) == 3


def test_a_failover_is_one_line_with_its_duration() -> None:
    story = started()
    story.trouble(100, "a", "possibly dead")
    story.trouble(100.02, "a", "down")
    story.master(100.125, "b")
    story.add(100.125, Change.ROLE, "b")
    story.add(100.3, Change.SYNC, "c")
    line = story.lines[-1]
    assert (line.change, line.text) == ("failover", "failover from a to b in 125 ms (timeline 2)")
    assert len(line.entries) == 5
    assert line.at == NOON + timedelta(seconds=100)
    assert line.level == logging.WARNING
    assert len(story.lines) == 2


def test_later_changes_of_the_former_master_belong_to_the_failover() -> None:
    """Changes of other hosts meanwhile do not."""
    story = started()
    story.trouble(99, "a", "possibly dead")
    story.master(100, "b")
    story.trouble(114, "a")
    story.trouble(120, "c")
    story.add(140, Change.HEALTH, "a", "a is alive")
    story.add(400, Change.HEALTH, "a", "a is alive again")
    assert story.texts[1:] == [
        "failover from a to b in 1.0 s (timeline 2)", "c is dead", "a is alive again"
    ]  # fmt: skip
    assert len(story.lines[1].entries) == 4


def test_a_long_time_without_a_master_belongs_to_the_failover() -> None:
    story = started()
    story.trouble(100, "a")
    story.no_master(101)
    story.trouble(110, "c")
    story.no_master(140, "another reason")
    assert story.texts[1:] == ["no master: another reason"]
    story.master(160, "b")
    assert story.texts[1:] == ["failover from a to b in 1 min (timeline 2)"]
    assert len(story.lines[-1].entries) == 5


def test_the_return_of_the_same_master() -> None:
    story = started()
    story.trouble(100, "a")
    story.no_master(100.1)
    story.master(103.7, "a", 1)
    line = story.lines[-1]
    assert (line.change, line.text) == ("interruption", "a is the master again after 3.7 s")
    assert len(story.lines) == 2


def test_a_master_that_was_never_lost_is_no_interruption() -> None:
    """After a reload while there were no results, all is reported as at the start."""
    story = started()
    story.master(100, "a", 1)
    assert [(line.change, line.text) for line in story.lines[1:]] == [
        ("master", "a is now the master")
    ]


def interrupt(story: Story, seconds: float, until: float) -> None:
    story.add(seconds, Change.READY, None, "not ready", level=logging.WARNING)
    story.add(until, Change.READY, None, f"ready again after {until - seconds:g} s")


def test_an_interruption_of_the_checks_is_one_line() -> None:
    story = started()
    for begin in (1, 200):
        interrupt(story, begin, begin + 7)
    story.add(300, Change.READY, None, "not ready", level=logging.WARNING)
    assert [(line.change, line.text, len(line.entries)) for line in story.lines[1:]] == [
        ("ready", "ready again after 7 s", 2),
        ("ready", "ready again after 7 s", 2),
        ("ready", "not ready", 1),
    ]
    assert story.lines[1].level == logging.WARNING


def test_the_end_of_an_interruption_of_the_checks_whose_beginning_is_not_kept_any_more() -> None:
    story = Story()
    story.add(7, Change.READY, None, "ready again after 7 s")
    interrupt(story, 100, 101)
    assert [(line.text, len(line.entries)) for line in story.lines] == [
        ("ready again after 7 s", 1),
        ("ready again after 1 s", 2),
    ]


def test_a_failover_during_an_interruption_of_the_checks() -> None:
    story = started()
    interrupt(story, 100, 107)
    story.master(107, "b")
    story.trouble(107, "a")
    assert story.texts[1:] == ["ready again after 7 s", "failover from a to b (timeline 2)"]


def test_a_planned_switchover_has_no_duration_if_it_was_noticed_at_once() -> None:
    story = started()
    story.master(100, "b")
    assert story.texts[1:] == ["failover from a to b (timeline 2)"]


def test_earlier_trouble_with_another_host_does_not_belong_to_a_failover() -> None:
    story = started()
    story.trouble(95, "c")
    story.trouble(99, "a")
    story.master(100, "b")
    assert story.texts[1:] == ["c is dead", "failover from a to b in 1.0 s (timeline 2)"]


def test_two_failovers_are_two_lines() -> None:
    """Also if the second one follows at once."""
    story = started()
    story.trouble(99, "a")
    story.master(100, "b")
    story.add(100.5, Change.SYNC, "c")
    story.trouble(101, "b")
    story.master(102, "c", 3)
    assert story.texts[1:] == [
        "failover from a to b in 1.0 s (timeline 2)",
        "failover from b to c in 1.0 s (timeline 3)",
    ]
    story.master(200, "a", 4)
    assert story.texts[3:] == ["failover from c to a (timeline 4)"]


def test_a_split_brain_during_a_failover() -> None:
    story = started()
    story.trouble(99, "a")
    story.master(100, "b")
    story.add(101, Change.SPLIT_BRAIN, None, "split brain: a, b", level=logging.ERROR)
    line = story.lines[-1]
    assert line.text.endswith("(timeline 2), with a split brain")
    assert line.level == logging.ERROR


def test_other_changes_stand_alone() -> None:
    story = started()
    story.trouble(100, "c")
    story.add(100.5, Change.HEALTH, "c", "c is alive")
    story.add(200, Change.SYNC, "c", "in sync by time")
    story.add(200, Change.SYNC, "c", "in sync by bytes")
    assert story.texts[1:] == ["c is dead", "c is alive", "in sync by time; in sync by bytes"]


def test_no_change_is_lost() -> None:
    story = started()
    for second, host in enumerate("abcabc"):
        story.trouble(10 + 3 * second, host)
        if host != "b":
            story.master(11 + 3 * second, host)
        else:
            story.no_master(11 + 3 * second)
    entries = [entry for line in story.lines for entry in line.entries]
    assert sorted(entries, key=lambda entry: entry.at) == story.entries
    assert [line.at for line in story.lines] == sorted(line.at for line in story.lines)
