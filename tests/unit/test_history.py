"""What people are shown of the last minutes: which changes, since when, and how late."""

from datetime import timedelta

from pgstatus.core.changes import Change, Event, events
from pgstatus.core.snapshot import Host, Snapshot
from pgstatus.telemetry.history import SAMPLES, STEP, History
from tests.support.world import NOON, World, master, refused, replica

B = Host("b", 5432)


class Watched:
    """A world whose changes are noted, a minute apart."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history = History()
        self.minutes = 0

    def see(self, **results: object) -> None:
        self.minutes += 1
        for name, result in results.items():
            before = self.world.snapshot
            self.world.see(name, result)  # type: ignore[arg-type]
            told = list(events(before, self.world.snapshot))
            self.history.changed(before, told, NOON + timedelta(minutes=self.minutes))


def watched(hosts: int = 3) -> Watched:
    """All is well since the first minute."""
    story = Watched(World(hosts))
    story.see(a=master(0), **{name: replica(0) for name in "bc"[: hosts - 1]})
    return story


def lags_of(lag_ms: int | None) -> Snapshot:
    """``b`` is this late."""
    seen = World().see_all(a=master(0), b=replica(0), c=replica(0)).snapshot
    hosts = tuple(
        type(status)(status.host, lag_ms=lag_ms if status.host == B else 0) for status in seen.hosts
    )
    return Snapshot(hosts, ready=True)


def test_the_newest_change_comes_first_and_those_of_one_moment_in_reverse() -> None:
    history = History()
    before = World().snapshot
    first, second, third = (Event(Change.HEALTH, "a:5432", text) for text in "123")
    history.changed(before, [first, second], NOON)
    history.changed(before, [third], NOON + timedelta(minutes=1))
    assert [entry.event for entry in history.entries()] == [third, second, first]
    assert history.entries()[0].at == NOON + timedelta(minutes=1)


def test_a_hundred_changes_are_remembered_and_no_more() -> None:
    history = History()
    for number in range(250):
        event = Event(Change.HEALTH, None, str(number))
        history.changed(World().snapshot, [event], NOON)
    texts = [entry.event.text for entry in history.entries()]
    assert texts == [str(number) for number in range(249, 149, -1)]


def test_the_master_that_was_there_when_we_came_is_it_since_nobody_knows_when() -> None:
    assert watched().history.master_since is None


def test_a_new_master_is_it_since_it_was_seen() -> None:
    story = watched()
    story.see(a=refused(5))
    assert story.history.master_since is None
    story.see(b=master(6, 1100, timeline=2))
    assert story.history.master_since == NOON + timedelta(minutes=3)


def test_other_changes_do_not_make_it_master_anew() -> None:
    story = watched()
    story.see(b=master(6, 1100, timeline=2), a=refused(6))
    since = story.history.master_since
    story.see(c=refused(12))
    assert len(story.history.entries()) > 0
    assert story.history.master_since == since == NOON + timedelta(minutes=2)


def test_nobody_is_master_since_any_time() -> None:
    """The moment when the master was lost is not the moment since when it is there."""
    story = watched(hosts=1)
    for at in (5, 10, 15):
        story.see(a=refused(at))
    assert story.world.master is None
    assert story.history.master_since is None
    story.see(a=master(20))
    assert story.history.master_since == NOON + timedelta(minutes=5)


def test_a_number_for_each_step_and_none_for_what_nobody_noted() -> None:
    history = History()
    for step, lag_ms in ((100, 7), (101, 8), (103, None), (104, 9)):
        history.sample(lags_of(lag_ms), float(step * STEP))
    lags = history.lags(B, 105.0 * STEP)
    assert len(lags) == SAMPLES
    assert lags[-6:] == [None, 7, 8, None, None, 9]
    assert set(lags[:-6]) == {None}


def test_the_step_that_is_not_over_is_not_shown() -> None:
    history = History()
    history.sample(lags_of(5), 100.0 * STEP)
    assert history.lags(B, 100.0 * STEP + 0.9 * STEP)[-1] is None
    assert history.lags(B, 101.0 * STEP)[-1] == 5


def test_the_last_note_within_a_step_stays() -> None:
    history = History()
    for part, lag_ms in ((0.0, 5), (0.5, 900), (0.9, 6)):
        history.sample(lags_of(lag_ms), (100 + part) * STEP)
    assert history.lags(B, 101.0 * STEP)[-2:] == [None, 6]


def test_what_is_older_than_the_chart_is_forgotten() -> None:
    history = History()
    for step in range(3 * SAMPLES):
        history.sample(lags_of(step), float(step * STEP))
    assert len(history._lags) == SAMPLES + 1
    end = 3 * SAMPLES - 1
    assert history.lags(B, float(end * STEP)) == list(range(end - SAMPLES, end))
    # The machine slept for an hour.
    assert history.lags(B, end * STEP + 3600.0) == [None] * SAMPLES


def test_a_host_that_was_not_there_has_no_past() -> None:
    history = History()
    history.sample(lags_of(5), 100.0 * STEP)
    assert history.lags(Host("new", 5432), 101.0 * STEP) == [None] * SAMPLES
