"""Which changes are reported, and in which words."""

import logging

import pytest

from pgstatus.core.changes import Change, Reporter, events
from pgstatus.core.state import Rules
from pgstatus.core.tracker import list_hosts
from pgstatus.core.view import view
from tests.support.world import World, master, refused, replica, silent


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
    ended = "split brain ended: a:5432 is a replica"
    assert ended in reported(world, ("a", replica(6, 1100, timeline=2)))


FOREIGN = {"system_identifier": 7}
NOT_OBSERVED = "the split brain is not observed any more"


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (refused(6), "split brain ended: a:5432 is down (Connection refused)"),
        (master(6, **FOREIGN), "split brain ended: a:5432 belongs to a different cluster"),
        (
            silent(6),
            f"{NOT_OBSERVED}: a:5432 is possibly dead (no response to the query within 1 s)",
        ),
    ],
)
def test_a_split_brain_has_ended_only_if_the_other_server_cannot_accept_writes(
    result: object, text: str
) -> None:
    world = quiet()
    reported(world, ("b", master(5, 1100, timeline=2)), ("c", replica(5, 1100, timeline=2)))
    assert reported(world, ("a", result))[0] == text


def test_a_split_brain_has_not_ended_because_a_host_is_not_monitored_any_more() -> None:
    world = quiet()
    reported(world, ("b", master(5, 1100, timeline=2)))
    before = world.snapshot
    remaining = [host for host in world.state.hosts if host.name != "a"]
    world.state = list_hosts(world.state, remaining, world.rules, 6)
    assert [event.text for event in events(before, world.snapshot)] == [
        f"{NOT_OBSERVED}: a:5432 is not monitored any more"
    ]


def test_a_primary_that_is_down_remains_so_after_the_failover() -> None:
    """It is not possibly dead again only because another server is the master."""
    world = quiet()
    world.see_all(b=replica(5, receiving=False), c=replica(5, receiving=False))
    assert reported(world, ("a", refused(5))) == ["a:5432 is down: Connection refused"]
    texts = reported(world, ("b", master(6, 1100, timeline=2)), ("c", replica(6, 1100, timeline=2)))
    assert not any("a:5432 is" in text for text in texts)
    assert reported(world, ("a", refused(10)), ("a", refused(15))) == [
        "a:5432 is dead: Connection refused"
    ]


def test_losing_the_last_master_is_a_warning() -> None:
    world = World(1).see("a", master(0))
    before = world.snapshot
    for at in (5, 10, 15):
        world.see("a", refused(at))
    event = next(e for e in events(before, world.snapshot) if e.change is Change.MASTER)
    assert event.text == "no master: no live host is a master"


@pytest.mark.parametrize(
    ("admits", "expected"), [(True, ["b:5432 accepts new sessions"]), (None, [])]
)
def test_new_sessions_are_accepted_again_only_if_that_is_known(
    admits: bool | None, expected: list[str]
) -> None:
    world = quiet().see("b", replica(5, admits=False, refusal="too many clients"))
    assert reported(world, ("b", replica(10, admits=admits))) == expected


def test_the_return_of_the_same_master() -> None:
    world = World(1).see("a", master(0))
    for at in (5, 10, 15):
        world.see("a", refused(at))
    assert reported(world, ("a", master(20))) == [
        "a:5432 is the master again (timeline 1)",
        "a:5432 is alive",
        "a:5432 is a master",
    ]


def test_a_new_master_after_a_time_without_one() -> None:
    world = World(2).see_all(a=master(0), b=replica(0))
    for at in (5, 10, 15):
        world.see("a", refused(at))
    first, *_ = reported(world, ("b", master(20, 1100, timeline=2)))
    assert first == "b:5432 is now the master (timeline 2, previously a:5432)"


class Reports:
    """What a `Reporter` reports of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.reporter = Reporter(world.snapshot)

    def see(self, **results: object) -> list[str]:
        """The reports after each of these results."""
        texts: list[str] = []
        for name, result in results.items():
            self.world.see(name, result)  # type: ignore[arg-type]
            texts += self.report()
        return texts

    def report(self) -> list[str]:
        return [event.text for event in self.reporter.events(self.world.snapshot)]


@pytest.fixture
def reports() -> Reports:
    """Of a healthy cluster that was checked at 0."""
    reports = Reports(World(rules=Rules(max_staleness=30.0)))
    assert "a:5432 is now the master (timeline 1)" in reports.see(
        a=master(0), b=replica(0), c=replica(0)
    )
    return reports


NOT_READY = "not ready: no host has been checked recently; requests are answered with 503"


def test_an_interruption_of_the_checks_is_no_change_of_the_cluster(reports: Reports) -> None:
    """This process was suspended, or a relay had no watchers."""
    reports.world.expire(40)
    event, *others = reports.reporter.events(reports.world.snapshot)
    assert (event.change, event.host, event.level) == (Change.READY, None, logging.WARNING)
    assert (event.text, others) == (NOT_READY, [])
    assert reports.see(a=master(40), b=replica(40)) == []
    assert reports.see(c=replica(40)) == ["ready again: the checks were interrupted for 40.0 s"]
    assert reports.see(c=refused(45)) == ["c:5432 is possibly dead: Connection refused"]


def test_what_has_changed_during_an_interruption_is_reported_afterwards(reports: Reports) -> None:
    reports.world.expire(40)
    assert reports.report() == [NOT_READY]
    assert reports.see(
        a=refused(40), b=master(40, 1100, timeline=2), c=replica(40, 1100, timeline=2)
    ) == [
        "ready again: the checks were interrupted for 40.0 s",
        "b:5432 is now the master (timeline 2, previously a:5432)",
        "a:5432 is dead: Connection refused",
        "b:5432 is a master",
    ]


def test_a_split_brain_does_not_end_with_an_interruption(reports: Reports) -> None:
    reports.see(b=master(5, 1100, timeline=2))
    reports.world.expire(40)
    assert reports.report() == [NOT_READY]
    assert reports.see(a=master(40), b=master(40, 1100, timeline=2), c=replica(40)) == [
        "ready again: the checks were interrupted for 35.0 s"
    ]


def test_after_a_reload_only_changes_are_reported(reports: Reports) -> None:
    """Another monitor continues from the state of the first one."""
    state, rules = reports.world.state, reports.world.rules
    after = World(rules=rules)
    after.state = state.among(state.hosts[:2])
    reload = Reports(after)
    reload.reporter = Reporter(view(state, rules))
    assert reload.report() == []
    assert reload.see(a=master(5)) == []
    assert reload.see(b=refused(5)) == ["b:5432 is possibly dead: Connection refused"]
