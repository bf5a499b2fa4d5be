"""The history: changes, the time of the last failover, and the lag of each replica."""

from dataclasses import replace
from datetime import timedelta

from pgstatus.core.changes import Change, Event, events
from pgstatus.core.snapshot import Host, Snapshot
from pgstatus.core.state import Memory
from pgstatus.telemetry.history import SAMPLES, STEP, History
from pgstatus.telemetry.incidents import FAILOVER, incidents
from tests.support.world import CLUSTER, NOON, World, master, refused, replica

B = Host("b", 5432)


class Story:
    """A cluster whose changes are stored, one minute apart."""

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


def healthy(hosts: int = 3) -> Story:
    """Healthy since the first minute."""
    story = Story(World(hosts))
    story.see(a=master(0), **{name: replica(0) for name in "bc"[: hosts - 1]})
    return story


def lags_of(lag_ms: int | None) -> Snapshot:
    """``b`` has this lag."""
    seen = World().see_all(a=master(0), b=replica(0), c=replica(0)).snapshot
    hosts = tuple(
        type(status)(status.host, lag_ms=lag_ms if status.host == B else 0) for status in seen.hosts
    )
    return Snapshot(hosts, ready=True)


def test_the_changes_are_in_their_order() -> None:
    history = History()
    before = World().snapshot
    first, second, third = (Event(Change.HEALTH, "a:5432", text) for text in "123")
    history.changed(before, [first, second], NOON)
    history.changed(before, [third], NOON + timedelta(minutes=1))
    assert [entry.event for entry in history.entries()] == [first, second, third]
    assert history.entries()[-1].at == NOON + timedelta(minutes=1)


def test_one_hundred_changes_are_kept() -> None:
    history = History()
    for number in range(250):
        event = Event(Change.HEALTH, None, str(number))
        history.changed(World().snapshot, [event], NOON)
    texts = [entry.event.text for entry in history.entries()]
    assert texts == [str(number) for number in range(150, 250)]


def test_since_when_the_first_master_has_its_role_is_unknown() -> None:
    assert healthy().history.master_since is None


def test_a_new_master_has_its_role_since_it_was_noticed() -> None:
    story = healthy()
    story.see(a=refused(5))
    assert story.history.master_since is None
    story.see(b=master(6, 1100, timeline=2))
    assert story.history.master_since == NOON + timedelta(minutes=3)


def test_other_changes_do_not_affect_the_time_of_the_failover() -> None:
    story = healthy()
    story.see(b=master(6, 1100, timeline=2), a=refused(6))
    since = story.history.master_since
    story.see(c=refused(12))
    assert len(story.history.entries()) > 0
    assert story.history.master_since == since == NOON + timedelta(minutes=2)


def test_without_a_master_there_is_no_time() -> None:
    """The time of the loss is not the time of the return."""
    story = healthy(hosts=1)
    for at in (5, 10, 15):
        story.see(a=refused(at))
    assert story.world.master is None
    assert story.history.master_since is None
    story.see(a=master(20))
    assert story.history.master_since == NOON + timedelta(minutes=5)


def test_since_when_there_is_no_master() -> None:
    """Another reason does not change the time."""
    story = healthy()
    for at in (5, 10, 15):
        story.see(a=refused(at))
    lost = NOON + timedelta(minutes=4)
    since = [story.history.no_master_since]
    assert story.history.former_master is None
    story.see(a=master(20, timeline=0))
    assert story.world.snapshot.no_master != "no live host is a master"
    since.append(story.history.no_master_since)
    assert since == [lost, lost]
    story.see(b=master(25, 1100, timeline=2))
    history: History = story.history
    assert history.no_master_since is None
    assert history.former_master == "a:5432"


def test_an_interruption_of_the_checks_does_not_change_since_when_the_master_has_its_role() -> None:
    """Nor does a reload while there are no results, after which all is reported again."""
    story = healthy()
    story.see(b=master(5, 1100, timeline=2))
    since = story.history.master_since
    story.history.changed(story.world.snapshot, [], NOON + timedelta(minutes=8))
    nothing = replace(World().snapshot, last_master=B)
    event = Event(Change.MASTER, "b:5432", "b:5432 is now the master", timeline=2)
    story.history.changed(nothing, [event], NOON + timedelta(minutes=9))
    assert story.history.master_since == since is not None
    assert story.history.former_master == "a:5432"
    other = Event(Change.MASTER, "a:5432", "a:5432 is now the master", timeline=3)
    story.history.changed(nothing, [other], NOON + timedelta(minutes=10))
    assert story.history.master_since == NOON + timedelta(minutes=10)


def test_a_cluster_without_a_master_at_the_start_has_no_time() -> None:
    story = Story(World(2))
    story.see(a=replica(0), b=replica(0))
    assert story.history.no_master_since is None
    story.see(a=replica(5), b=master(5, timeline=0))
    assert story.history.no_master_since is None


def test_the_former_master() -> None:
    history, last = History(), Host("a", 5432)
    found: list[str | None] = []
    for name in (None, "a", "b", None, "c"):
        before = Snapshot((), ready=True, last_master=last)
        last = last if name is None else Host(name, 5432)
        event = Event(Change.MASTER, None if name is None else str(last), "")
        history.changed(before, [event], NOON)
        found.append(history.former_master)
    assert found == [None, None, "a:5432", "a:5432", "b:5432"]


def restarted() -> Story:
    """``a`` was the master before the restart."""
    world = World()
    memory = Memory(CLUSTER, 1, frozenset({"a:5432"}), "a:5432")
    world.state = world.state.restore(memory)
    return Story(world)


def test_a_failover_after_a_restart_without_the_master() -> None:
    story = restarted()
    story.see(a=refused(0), b=replica(0), c=replica(0))
    assert story.history.no_master_since is None
    story.see(b=master(5, 1100, timeline=2))
    (line,) = (i for i in incidents(story.history.entries()) if i.change == FAILOVER)
    assert line.text.startswith("failover from a:5432 to b:5432")
    assert story.history.former_master == "a:5432"
    assert story.history.master_since == NOON + timedelta(minutes=2)


def test_a_failover_during_a_restart() -> None:
    """Since when the new master has its role is not known."""
    story = restarted()
    story.see(a=refused(0), b=master(0, 1100, timeline=2), c=replica(0, 1100, timeline=2))
    assert story.history.former_master == "a:5432"
    assert story.history.master_since is None


def test_a_restart_without_a_failover() -> None:
    story = restarted()
    story.see(a=master(0), b=replica(0), c=replica(0))
    assert (story.history.former_master, story.history.master_since) == (None, None)


def test_a_step_without_a_sample_is_unknown() -> None:
    history = History()
    for step, lag_ms in ((100, 7), (101, 8), (103, None), (104, 9)):
        history.sample(lags_of(lag_ms), float(step * STEP))
    lags = history.lags(B, 105.0 * STEP)
    assert len(lags) == SAMPLES
    assert lags[-6:] == [None, 7, 8, None, None, 9]
    assert set(lags[:-6]) == {None}


def test_the_current_step_is_not_included() -> None:
    history = History()
    history.sample(lags_of(5), 100.0 * STEP)
    assert history.lags(B, 100.0 * STEP + 0.9 * STEP)[-1] is None
    assert history.lags(B, 101.0 * STEP)[-1] == 5


def test_the_largest_sample_within_a_step_is_kept() -> None:
    history = History()
    for part, lag_ms in ((0.0, 5), (0.5, 900), (0.9, 6), (0.95, None)):
        history.sample(lags_of(lag_ms), (100 + part) * STEP)
    assert history.lags(B, 101.0 * STEP)[-2:] == [None, 900]


def test_samples_older_than_the_chart_are_removed() -> None:
    history = History()
    for step in range(3 * SAMPLES):
        history.sample(lags_of(step), float(step * STEP))
    end = 3 * SAMPLES - 1
    assert history.lags(B, float(end * STEP)) == list(range(end - SAMPLES, end))
    # The machine slept for an hour.
    assert history.lags(B, end * STEP + 3600.0) == [None] * SAMPLES


def test_a_host_without_samples() -> None:
    history = History()
    history.sample(lags_of(5), 100.0 * STEP)
    assert history.lags(Host("new", 5432), 101.0 * STEP) == [None] * SAMPLES
