"""How many events are logged."""

import logging

from pgstatus.core.changes import Change, Event
from pgstatus.core.damper import Damper


def health(host: str, text: str = "fails") -> Event:
    return Event(Change.HEALTH, host, f"{host} {text}", logging.WARNING)


def test_a_host_that_flaps_is_summarised_once_a_minute() -> None:
    damper, lines = Damper(), []
    for second in range(600):
        flapping = (health("a"), health("a", "recovers"))
        lines += [event.text for event in flapping if damper.admits(event, second)]
        lines += [event.text for event in damper.summaries(second + 0.5)]
    assert len(lines) <= 10 * 4
    assert lines[:4] == [
        "a fails",
        "a recovers",
        "a fails",
        "a recovers (119 further changes within 60 s)",
    ]


def test_a_hundred_hosts_that_fail_at_once_are_a_few_lines() -> None:
    damper = Damper()
    logged = sum(damper.admits(health(f"host{n}"), 0.0) for n in range(100))
    assert 10 <= logged <= 30
    assert list(damper.summaries(59.0)) == []
    [summary] = damper.summaries(60.0)
    assert summary.text == "70 further changes within 60 s of 70 hosts were not logged"
    assert summary.level == logging.WARNING


def test_a_new_master_is_logged_whatever_else_happens() -> None:
    damper = Damper()
    for n in range(100):
        damper.admits(health(f"host{n}"), 0.0)
    assert damper.admits(Event(Change.MASTER, "b", "b is now the master"), 1.0)


def test_masters_that_alternate_are_limited_too() -> None:
    damper = Damper()
    admitted = [
        damper.admits(Event(Change.MASTER, "ab"[n % 2], "a master"), n / 10) for n in range(100)
    ]
    assert sum(admitted) <= 3


def test_few_events_are_logged_as_they_are() -> None:
    damper = Damper()
    assert damper.admits(health("a"), 0.0)
    assert list(damper.summaries(60.0)) == []
    assert damper.admits(health("a"), 100.0)
