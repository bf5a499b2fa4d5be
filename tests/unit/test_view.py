"""In what words a host is described: each reason continues the sentence "host …"."""

import pytest

from pgstatus.core.election import SplitBrain
from pgstatus.core.state import Look, Rules
from tests.support.world import CLUSTER, World, master, refused, replica


def told(world: World, name: str) -> str | None:
    return world[name].reason


def test_nothing_is_wrong() -> None:
    world = World().see_all(a=master(0), b=replica(0), c=replica(0))
    assert [told(world, name) for name in "abc"] == [None, None, None]


def test_a_late_replica() -> None:
    world = World(2, Rules(sync_max_lag_ms=1000, sync_max_lag_bytes=50))
    world.see_all(a=master(0, 1000), b=replica(0, 1000))
    world.see("a", master(10, 1100)).see("b", replica(10.5, 1000), Look.RECHECK)
    assert told(world, "b") == (
        "10501 ms behind (limit 1000 ms); 100 bytes behind (limit 50 bytes)"
    )


def test_before_the_second_look_nothing_is_made_up() -> None:
    world = World(2).see_all(a=master(0, 1000), b=refused(0)).see("a", master(20, 5000))
    world.see("b", replica(20, 100))
    assert told(world, "b") == "time lag unknown; byte lag unknown"


def test_a_replica_that_has_replayed_nothing_new() -> None:
    world = World(2).see_all(a=master(0, 5000)).see("b", replica(0.5, 100), Look.RECHECK)
    assert told(world, "b") == (
        "time lag unknown: it has replayed nothing that was written since we saw the master"
    )


def test_without_a_master() -> None:
    world = World(2).see_all(a=refused(0)).see("b", replica(0.5, 100), Look.RECHECK)
    assert told(world, "b") == (
        "time lag unknown: no master was seen yet; byte lag unknown: the master does not answer"
    )


def test_a_master_that_has_stopped_answering() -> None:
    world = World(2).see_all(a=master(0), b=replica(0)).see("a", refused(5))
    assert told(world, "b") == "byte lag unknown: the master does not answer"


def test_other_timelines() -> None:
    world = World().see_all(a=master(0, timeline=2), b=replica(0), c=replica(0, timeline=2))
    assert told(world, "b") == "follows timeline 1; the master's is 2"
    for at in (5, 10, 15):
        world.see("a", refused(at))
    assert told(world, "b") == "follows timeline 1; the newest is 2"


@pytest.mark.parametrize(
    ("max_fails", "words"),
    [(1, "is dead: 1 failed check in a row"), (2, "is dead: 2 failed checks in a row")],
)
def test_the_dead(max_fails: int, words: str) -> None:
    world = World(1, Rules(max_fails=max_fails)).see("a", master(0))
    for n in range(max_fails):
        world.see("a", refused(5 + 5 * n))
    assert told(world, "a") == words


def test_those_who_are_not_known() -> None:
    world = World(2)
    assert told(world, "a") == "was not checked yet"
    world.see("a", refused(0))
    assert told(world, "a") == "has not answered lately"
    world.see("a", master(5)).expire(100)
    assert told(world, "a") == "was not checked lately"


def test_a_stranger() -> None:
    world = World().see_all(a=master(0), b=replica(0), c=replica(0, system_identifier=7))
    assert told(world, "c") == (
        f"belongs to another cluster: its system identifier is 7, the others have {CLUSTER}"
    )


def test_a_split_brain_that_nobody_decides() -> None:
    """Also the one of the claimants that has stopped answering has a reason."""
    world = World(rules=Rules(split_brain=SplitBrain.NONE))
    world.see_all(a=master(0), b=master(0, timeline=2), c=master(0)).see("c", refused(5))
    words = "split brain: a:5432 (timeline 1) and b:5432 (timeline 2) say they are the master"
    assert world.snapshot.no_master == words
    assert {told(world, name) for name in "abc"} == {f"says it is the master, in a {words}"}


def test_not_everybody_was_asked() -> None:
    world = World(2).see("a", master(0))
    assert world.snapshot.no_master == "not every host has been asked yet"
    assert world.master is None
    assert told(world, "a") is None
