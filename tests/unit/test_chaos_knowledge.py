"""When the relay of a campaign could know the state of the cluster."""

from math import inf

import pytest

from tests.chaos.health import Interval
from tests.chaos.knowledge import Chronicle, Knowledge, Trouble, union, without

WATCHERS = ("w1", "w2")


def trouble(
    began: float, ended: float, relay: str | None, watcher: str | None, *, silences: bool = True
) -> Trouble:
    return Trouble(began, relay, watcher, settle=1, silences=silences, ended=ended)


def known(*troubles: Trouble, direct_after: float | None = None) -> list[tuple[float, float]]:
    """The times from 0 to 100 in which ``r1`` could know."""
    chronicle = Chronicle(WATCHERS, 0, list(troubles))
    knowledge = chronicle.knowledge("r1", 100, (), 0.0, direct_after)
    return [(interval.began, interval.ended) for interval in knowledge.intervals]


def test_one_watcher_is_enough() -> None:
    assert known(trouble(10, 20, None, "w1"), trouble(15, 30, "r1", "w2")) == [(0, 15), (21, 100)]


def test_the_trouble_of_another_relay() -> None:
    assert known(trouble(10, 20, "r2", None)) == [(0, 100)]


def test_its_own_trouble() -> None:
    assert known(trouble(10, 20, "r1", None)) == [(0, 10), (21, 100)]


def test_a_short_trouble_is_over_soon() -> None:
    [one] = [Trouble(10, None, "w1", settle=8, ended=11)]
    assert one.whole == Interval(10, 13.5)


def test_a_trouble_that_has_not_ended() -> None:
    assert known(trouble(10, inf, "r1", None)) == [(0, 10)]


def test_checks_of_its_own_while_all_watchers_are_silent() -> None:
    away = trouble(10, 50, None, None)
    assert known(away, direct_after=12) == [(0, 10), (22, 50), (51, 100)]
    assert known(away, trouble(30, 35, "r1", None), direct_after=12) == [
        (0, 10), (22, 30), (36, 50), (51, 100),
    ]  # fmt: skip


def test_watchers_that_are_not_silent_but_useless() -> None:
    useless = trouble(10, 50, None, None, silences=False)
    assert known(useless, direct_after=12) == [(0, 10), (51, 100)]


def test_the_time_after_which_it_must_know() -> None:
    knowledge = Knowledge([Interval(0, 10), Interval(20, 30)])
    assert knowledge.since(5, 2) == 7
    assert knowledge.since(9, 2) == 22
    assert knowledge.since(29, 2) == inf
    assert knowledge.covers(20, 30)
    assert not knowledge.covers(9, 21)
    assert [*knowledge.within(5, 25)] == [Interval(5, 10), Interval(20, 25)]


def test_a_new_process_need_not_know_what_the_previous_one_has_reported() -> None:
    lives = Knowledge(starts=(0, 5, 20)).lives(1, 10)
    assert [*lives] == [Interval(1, 5), Interval(5, 10)]


@pytest.mark.parametrize("parts", [[], [Interval(0, 1), Interval(3, 4)]])
def test_differences(parts: list[Interval]) -> None:
    left = without(Interval(0, 4), parts)
    assert union([*left, *parts]) == [Interval(0, 4)]
    assert sum(part.ended - part.began for part in [*left, *parts]) == 4
