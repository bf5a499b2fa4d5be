"""Which changes are reported, and in which words."""

import logging

from pgstatus.core.changes import Change, events
from pgstatus.core.state import Rules
from tests.support.world import World, master, refused, replica


def reported(world: World, *steps: tuple[str, object]) -> list[str]:
    before = world.snapshot
    for name, result in steps:
        world.see(name, result)  # type: ignore[arg-type]
    return [event.text for event in events(before, world.snapshot)]


def quiet() -> World:
    return World().see_all(a=master(0), b=replica(0), c=replica(0))


def test_without_a_change_nothing_is_reported() -> None:
    assert reported(quiet(), ("a", master(5)), ("b", replica(5)), ("c", replica(5))) == []


def test_a_failover() -> None:
    world = quiet()
    assert reported(world, ("a", refused(5))) == [
        "a:5432 is possibly dead: Connection refused",
    ]
    assert reported(world, ("b", master(6, 1100, timeline=2))) == [
        "b:5432 is now the master (timeline 2, previously a:5432)",
        "b:5432 is a master",
        "c:5432: on timeline 1 (master's timeline: 2)",
    ]


def test_a_split_brain_begins_and_ends() -> None:
    world = quiet()
    text = "split brain: several masters: a:5432 (timeline 1), b:5432 (timeline 2)"
    assert text in reported(world, ("b", master(5, 1100, timeline=2)))
    assert "split brain ended" in reported(world, ("a", replica(6, 1100, timeline=2)))


def test_losing_the_last_master_is_a_warning() -> None:
    world = World(1).see("a", master(0))
    before = world.snapshot
    for at in (5, 10, 15):
        world.see("a", refused(at))
    event = next(e for e in events(before, world.snapshot) if e.change is Change.MASTER)
    assert event.text == "no master: no live host is a master"


def test_that_all_results_are_too_old_is_a_warning() -> None:
    """Otherwise the log of a relay without watchers does not show that it answers with 503."""
    world = World(rules=Rules(max_staleness=30.0))
    before = world.see_all(a=master(0), b=replica(0), c=replica(0)).snapshot
    first, *others = events(before, world.expire(31).snapshot)
    assert (first.change, first.host, first.level) == (Change.HEALTH, None, logging.WARNING)
    assert first.text == (
        "not ready: no host has been checked recently; requests are answered with 503"
    )
    assert {event.text for event in others} == {f"{name}:5432 is unknown" for name in "abc"}
