"""The words that describe the state of a host."""

import pytest

from pgstatus.core.election import SplitBrain
from pgstatus.core.state import Look, Rules
from tests.support.world import CLUSTER, World, master, refused, replica


def reported(world: World, name: str) -> str | None:
    return world[name].reason


def test_nothing_is_wrong() -> None:
    world = World().see_all(a=master(0), b=replica(0), c=replica(0))
    assert [reported(world, name) for name in "abc"] == [None, None, None]


def test_a_late_replica() -> None:
    world = World(2, Rules(sync_max_lag_ms=1000, sync_max_lag_bytes=50))
    world.see_all(a=master(0, 1000), b=replica(0, 1000))
    world.see("a", master(10, 1100)).see("b", replica(10.5, 1000), Look.RECHECK)
    assert reported(world, "b") == (
        "10501 ms behind (limit 1000 ms); 100 bytes behind (limit 50 bytes)"
    )


def test_before_the_second_look_nothing_is_made_up() -> None:
    world = World(2).see_all(a=master(0, 1000), b=refused(0)).see("a", master(20, 5000))
    world.see("b", replica(20, 100))
    assert reported(world, "b") == "time lag unknown; byte lag unknown"


def test_a_replica_that_has_replayed_nothing_new() -> None:
    world = World(2).see_all(a=master(0, 5000)).see("b", replica(0.5, 100), Look.RECHECK)
    assert reported(world, "b") == (
        "time lag unknown: nothing replayed that was written since the master is observed"
    )


def test_without_a_master() -> None:
    world = World(2).see_all(a=refused(0)).see("b", replica(0.5, 100), Look.RECHECK)
    assert reported(world, "b") == (
        "time lag unknown: no position of a master is known yet; byte lag unknown"
    )


def test_other_timelines() -> None:
    world = World().see_all(a=master(0, timeline=2), b=replica(0), c=replica(0, timeline=2))
    assert reported(world, "b") == "on timeline 1 (master's timeline: 2)"
    for at in (5, 10, 15):
        world.see("a", refused(at))
    assert reported(world, "b") == "on timeline 1 (newest timeline: 2)"


@pytest.mark.parametrize(
    ("max_fails", "words"),
    [(1, "dead: 1 failed check in a row"), (2, "dead: 2 failed checks in a row")],
)
def test_the_dead(max_fails: int, words: str) -> None:
    world = World(1, Rules(max_fails=max_fails)).see("a", master(0))
    for n in range(max_fails):
        world.see("a", refused(5 + 5 * n))
    assert reported(world, "a") == words


def test_unknown_hosts() -> None:
    world = World(2)
    assert reported(world, "a") == "not checked yet"
    world.see("a", refused(0))
    assert reported(world, "a") == "no recent successful check"
    world.see("a", master(5)).expire(100)
    assert reported(world, "a") == "no recent check"


def test_a_foreign_host() -> None:
    world = World().see_all(a=master(0), b=replica(0), c=replica(0, system_identifier=7))
    assert reported(world, "c") == (f"different cluster: system identifier 7 (expected {CLUSTER})")


def test_an_undecided_split_brain() -> None:
    """Also the one of the claimants that has stopped answering has a reason."""
    world = World(rules=Rules(split_brain=SplitBrain.NONE))
    world.see_all(a=master(0), b=master(0, timeline=2), c=master(0)).see("c", refused(5))
    words = "split brain: several masters: a:5432 (timeline 1), b:5432 (timeline 2)"
    assert world.snapshot.no_master == words
    assert {reported(world, name) for name in "abc"} == {words}


def test_no_host_was_checked_recently() -> None:
    world = World(rules=Rules(max_staleness=30.0))
    world.see_all(a=master(0), b=replica(0), c=replica(0)).expire(31)
    assert world.snapshot.no_master == "no host has been checked recently"
    world.see("a", master(32))
    assert world.snapshot.no_master == "not every host has been checked yet"


def test_a_relay_without_evidence() -> None:
    assert World(0).snapshot.no_master == "no watcher has delivered evidence yet"


def test_not_every_host_was_checked() -> None:
    world = World(2).see("a", master(0))
    assert world.snapshot.no_master == "not every host has been checked yet"
    assert world.master is None
    assert reported(world, "a") is None
