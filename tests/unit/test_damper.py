"""How many changes are reported: a few at once, then summaries."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgstatus.core.changes import Change, Event
from pgstatus.core.damper import Damper, damp


class Reports:
    """Applies `damp` to a sequence of changes; a summary is requested every second."""

    def __init__(self) -> None:
        self.damper = Damper()
        self.now = 0.0
        self.events: list[tuple[float, Event]] = []

    def add(self, *events: Event, seconds: float = 0.0) -> "Reports":
        self.damper, reported = damp(self.damper, events, self.now)
        self.events += [(self.now, event) for event in reported]
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 1)
            self.damper, reported = damp(self.damper, (), self.now)
            self.events += [(self.now, event) for event in reported]
        return self

    @property
    def texts(self) -> list[str]:
        return [event.text for _, event in self.events]

    def most_per_minute(self) -> int:
        times = [at for at, _ in self.events]
        return max((sum(t <= other < t + 60 for other in times) for t in times), default=0)


def health(host: str, text: str = "is alive") -> Event:
    return Event(Change.HEALTH, host, f"{host} {text}")


def test_a_failover_is_reported_completely() -> None:
    reports = Reports()
    for host in "abc":
        for change in (Change.HEALTH, Change.ROLE, Change.SYNC):
            reports.add(Event(change, host, f"{host} {change}"), seconds=0.1)
    reports.add(Event(Change.MASTER, "b", "b is now the master"))
    assert len(reports.texts) == 10


def test_a_host_that_flaps_is_summarised() -> None:
    reports = Reports()
    for number in range(600):
        words = "is alive" if number % 2 else "is possibly dead"
        reports.add(health("a", words), seconds=1)
    assert reports.most_per_minute() <= 6
    assert reports.texts[:4] == ["a is possibly dead", "a is alive"] * 2
    summaries = [
        text for text in reports.texts if "more changes (health) in 60 s, now: a is" in text
    ]
    assert len(summaries) == 9


def test_the_last_state_is_reported_even_if_nothing_follows() -> None:
    reports = Reports()
    for _ in range(5):
        reports.add(health("a", "is possibly dead"), health("a", "is alive"))
    reports.add(seconds=120)
    assert reports.texts[-1] == "6 more changes (health) in 60 s, now: a is alive"
    assert reports.damper.due is None


def test_many_hosts_are_summarised_together() -> None:
    reports = Reports().add(*(health(f"h{n}") for n in range(300)), seconds=120)
    assert len(reports.texts) == 21
    assert reports.texts[-1] == (
        "280 more changes (health) in 60 s, now: h20 is alive; h21 is alive; h22 is alive; "
        "and 277 other hosts"
    )


def test_other_changes_do_not_suppress_a_new_master() -> None:
    reports = Reports().add(*(health(f"h{n}") for n in range(300)))
    reports.add(Event(Change.MASTER, "b", "b is now the master"))
    assert reports.texts[-1] == "b is now the master"


def test_the_level_of_a_summary_is_the_highest() -> None:
    reports = Reports()
    for host in "ab":
        for _ in range(5):
            reports.add(Event(Change.SYNC, host, "late", logging.WARNING * (host == "a")))
    assert reports.add(seconds=120).events[-1][1].level == logging.WARNING


@pytest.mark.parametrize("hosts", [1, 3, 100])
@given(pauses=st.lists(st.floats(0, 5), min_size=1, max_size=60))
def test_a_few_per_minute_whatever_happens(hosts: int, pauses: list[float]) -> None:
    reports = Reports()
    for number, pause in enumerate(pauses):
        host = f"h{number % hosts}"
        reports.add(
            health(host), Event(Change.SYNC, host, "late"), Event(Change.MASTER, host, "master"),
            seconds=pause,
        )  # fmt: skip
    assert reports.most_per_minute() <= 36


def test_after_a_quiet_time_everything_is_reported_again() -> None:
    reports = Reports()
    for _ in range(10):
        reports.add(health("a"))
    reports.add(seconds=400)
    before = len(reports.texts)
    reports.add(health("a"), health("a"))
    assert len(reports.texts) == before + 2
    assert len(reports.damper.tokens) <= 2
