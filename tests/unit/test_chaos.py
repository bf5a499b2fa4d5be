"""The verdict of the failure campaign on given records."""

import time
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos.health import Interval, covers
from tests.chaos.knowledge import Knowledge
from tests.chaos.observer import MasterAnswer, Observer, Read
from tests.chaos.report import Verdict, judge
from tests.chaos.truth import Period

SLEEP = 1.0
BEGAN = 1000.0
A, B, C = "a", "b", "c"


class Campaign:
    """100 seconds, in which ``b`` replaces ``a`` after 50; ``c`` is a healthy replica."""

    def __init__(self) -> None:
        truth: Any = SimpleNamespace(
            periods=[
                Period(A, BEGAN, "start", 0.0),
                Period(B, BEGAN + 50, "crash", BEGAN + 49.9),
            ],
            violations=[],
            created=0.0,
            cluster=SimpleNamespace(primary=SimpleNamespace(sql=lambda *_: [])),
        )
        self.truth = truth
        self.health: Any = Health()
        self.observer = Observer("http://x", truth)
        self.observer.answers = [MasterAnswer(BEGAN, A), MasterAnswer(BEGAN + 50.1, B)]
        self.observer.requests = self.observer.claims = 1000
        self.read(10, C)
        self.knowledge = Knowledge()

    def read(self, at: float, host: str, text: str = "404") -> None:
        self.observer.read.append(
            Read("/replica", BEGAN + at, BEGAN + at + 0.01, host, f"200 {host}" if host else text)
        )

    @property
    def verdict(self) -> Verdict:
        return judge(self.truth, self.health, self.observer, BEGAN + 100, SLEEP, self.knowledge)


class Health:
    """As `tests.chaos.health.Health`, with given intervals."""

    def __init__(self) -> None:
        self.primary = {
            A: [Interval(BEGAN, BEGAN + 40)],
            B: [Interval(BEGAN + 50, BEGAN + 100)],
        }
        self.replica = {C: [Interval(BEGAN, BEGAN + 100)]}
        self.down = {A: [Interval(BEGAN + 40, BEGAN + 100)]}

    def could_serve(self, began: float, ended: float) -> bool:
        return any(
            covers(i, began, ended) for i in (*self.primary.values(), *self.replica.values())
        )

    def had_replica(self, began: float, ended: float) -> bool:
        return any(covers(i, began, ended) for i in self.replica.values())

    def was_down(self, address: str, began: float, ended: float) -> bool:
        return covers(self.down.get(address, []), began, ended)


def test_a_good_campaign() -> None:
    verdict = Campaign().verdict
    assert verdict.problems == []
    assert verdict.after_promotion["crash"] == [pytest.approx(0.1)]
    assert str(verdict).endswith("passed")


def test_a_campaign_without_responses_and_claims_has_failed() -> None:
    campaign = Campaign()
    campaign.observer = Observer("http://x", campaign.truth)
    verdict = campaign.verdict
    assert verdict.problems == [
        "not one response to /master",
        "not one read",
        "not one verified claim",
    ]
    assert "FAILED" in str(verdict)


def test_reads_without_any_response_are_refused() -> None:
    campaign = Campaign()
    campaign.observer.read.clear()
    campaign.read(10, "", "0 no response")
    assert set(campaign.verdict.problems) == {"not one read", "1 refused reads"}


def test_a_read_that_a_healthy_replica_could_have_served() -> None:
    campaign = Campaign()
    campaign.read(45, "")
    assert campaign.verdict.problems == ["1 refused reads"]


def test_a_read_that_no_host_could_have_served() -> None:
    campaign = Campaign()
    campaign.health.replica = {}
    campaign.read(45, "")
    assert campaign.verdict.problems == []


def test_a_read_answered_with_a_dead_host() -> None:
    campaign = Campaign()
    campaign.read(45, A)
    assert campaign.verdict.problems == ["1 reads answered with a dead host"]


def test_a_time_without_a_master() -> None:
    campaign = Campaign()
    campaign.observer.answers += [MasterAnswer(BEGAN + 70, ""), MasterAnswer(BEGAN + 70.5, B)]
    assert campaign.verdict.without_master == [f"{B}: 0.500 s at {BEGAN + 70:.3f}"]


def test_no_master_during_an_outage_is_correct() -> None:
    campaign = Campaign()
    campaign.observer.answers.insert(1, MasterAnswer(BEGAN + 40.1, ""))
    assert campaign.verdict.problems == []


def test_the_old_master_after_the_new_one_was_known() -> None:
    campaign = Campaign()
    campaign.observer.answers += [MasterAnswer(BEGAN + 70, A), MasterAnswer(BEGAN + 71, B)]
    assert campaign.verdict.problems == ["1 wrong responses", "1 lost writes"]


def test_the_old_master_is_never_replaced() -> None:
    campaign = Campaign()
    campaign.observer.answers.pop()
    assert campaign.verdict.problems == ["1 overdue masters"]
    assert "FAILED" in str(campaign.verdict)


def test_what_a_relay_could_not_know_is_not_judged() -> None:
    campaign = Campaign()
    campaign.observer.answers = [
        MasterAnswer(BEGAN, A),
        MasterAnswer(BEGAN + 60, ""),
        MasterAnswer(BEGAN + 61, A),
        MasterAnswer(BEGAN + 70, B),
    ]
    campaign.read(65, "")
    campaign.read(65, A)
    campaign.knowledge = Knowledge([Interval(BEGAN, BEGAN + 45), Interval(BEGAN + 69, inf)])
    assert campaign.verdict.problems == []
    campaign.knowledge = Knowledge()
    assert set(campaign.verdict.problems) == {
        "1 wrong responses",
        "1 overdue masters",
        "1 lost writes",
        "1 times without a master",
        "1 refused reads",
        "1 reads answered with a dead host",
    }


def test_a_relay_that_knew_the_master_must_not_forget_it() -> None:
    """Although no watcher reminds it; unless its process is a new one."""
    campaign = Campaign()
    campaign.observer.answers += [MasterAnswer(BEGAN + 70, A), MasterAnswer(BEGAN + 71, B)]
    intervals = [Interval(BEGAN, BEGAN + 45), Interval(BEGAN + 80, inf)]
    campaign.knowledge = Knowledge(intervals)
    assert campaign.verdict.wrong == 1
    campaign.knowledge = Knowledge(intervals, starts=(BEGAN + 69,))
    assert campaign.verdict.wrong == 0


def test_a_violation_that_an_event_has_noticed() -> None:
    campaign = Campaign()
    campaign.truth.violations.append("the shutdown took 20 s")
    assert campaign.verdict.problems == ["1 other violations"]


def test_a_gap_between_two_samples_ends_an_interval() -> None:
    now = time.time()
    assert covers([Interval(now, now + 1)], now, now + 1)
    assert not covers([Interval(now, now + 1), Interval(now + 2, now + 3)], now, now + 3)


def test_writes_during_a_promotion_are_not_judged() -> None:
    """Two hosts were promoted, and one of them was stopped later."""
    campaign = Campaign()
    campaign.truth.periods[1].promoting = BEGAN + 45
    campaign.observer.answers.insert(1, MasterAnswer(BEGAN + 47, C))
    assert campaign.verdict.problems == []


def test_events_are_judged_as_responses_are() -> None:
    campaign = Campaign()
    notified = [MasterAnswer(BEGAN, A), MasterAnswer(BEGAN + 50.25, B)]
    campaign.observer.notified = notified
    assert campaign.verdict.notified_after == [pytest.approx(0.15)]
    assert campaign.verdict.problems == []
    notified += [MasterAnswer(BEGAN + 70, A)]
    assert campaign.verdict.problems == ["1 wrong responses"]
