"""When the `on_change` command is due, with a clock that the test sets."""

import math

from pgstatus.core.situation import Situation
from pgstatus.outputs.backoff import Backoff, TokenBucket
from pgstatus.outputs.run_schedule import RunSchedule


def situation(master: str | None = "a", sync: tuple[str, ...] = ("b",)) -> Situation:
    return Situation(master=master, replicas=("b",), sync=sync, split_brain=())


def run_at(schedule: RunSchedule, now: float, *, succeeded: bool = True) -> float | None:
    assert schedule.wait(now) == 0
    return schedule.end(schedule.begin(now), now, succeeded=succeeded)


def runs_within(schedule: RunSchedule, seconds: int, states: list[Situation]) -> int:
    """The cluster changes ten times per second; every run succeeds immediately."""
    runs = 0
    for tenth in range(10 * seconds):
        schedule.want(states[tenth % len(states)])
        if schedule.wait(tenth / 10) == 0:
            run_at(schedule, tenth / 10)
            runs += 1
    return runs


def test_nothing_is_due_before_the_first_situation_and_after_a_successful_run() -> None:
    schedule = RunSchedule()
    assert schedule.wait(0) == math.inf
    assert schedule.want(situation())
    assert not schedule.want(situation())
    assert schedule.wait(0) == 0
    assert run_at(schedule, 0) is None
    assert not schedule.is_pending
    assert schedule.wait(1e9) == math.inf


def test_a_change_during_a_run_leads_to_one_further_run() -> None:
    schedule = RunSchedule()
    schedule.want(situation())
    run = schedule.begin(0)
    for number in range(9):
        schedule.want(situation(f"m{number}"))
    schedule.end(run, 1, succeeded=True)
    second = schedule.begin(1)
    assert second.situation == situation("m8")
    assert second.merged == 9
    assert second.changes == ("master",)


def test_a_change_back_during_a_run_needs_no_run() -> None:
    schedule = RunSchedule()
    schedule.want(situation())
    run = schedule.begin(0)
    schedule.want(situation("b"))
    schedule.want(situation())
    schedule.end(run, 1, succeeded=True)
    assert not schedule.is_pending


def test_a_failed_run_is_repeated_with_doubling_pauses() -> None:
    schedule = RunSchedule()
    schedule.want(situation())
    now = 0.0
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        assert run_at(schedule, now, succeeded=False) == pause
        assert schedule.wait(now) == pause
        now += pause
    assert schedule.begin(now).changes == ("master", "replicas", "sync", "split_brain")


def test_another_situation_does_not_wait_for_the_end_of_the_pause() -> None:
    schedule = RunSchedule()
    schedule.want(situation())
    for now in (0, 1, 3):
        run_at(schedule, now, succeeded=False)
    schedule.want(situation("b"))
    assert schedule.wait(3.1) == 0
    assert run_at(schedule, 3.1, succeeded=False) == 1, "the first pause again"


def test_a_replica_that_flaps_causes_few_runs() -> None:
    schedule = RunSchedule()
    runs = runs_within(schedule, 600, [situation(), situation(sync=())])
    assert runs <= 5 + 600 / 20 + 1


def test_a_master_that_flaps_causes_few_runs_even_if_they_fail() -> None:
    schedule = RunSchedule()
    runs = 0
    for tenth in range(6000):
        schedule.want(situation("ab"[tenth % 2]))
        if schedule.wait(tenth / 10) == 0:
            run_at(schedule, tenth / 10, succeeded=False)
            runs += 1
    assert runs <= 600 / 60 * 8


def test_a_failover_while_a_replica_flaps_is_reported_immediately() -> None:
    schedule = RunSchedule()
    runs_within(schedule, 66, [situation(), situation(sync=())])
    schedule.want(situation(sync=("c",)))
    assert 0 < schedule.wait(66.1) < 20
    assert schedule.is_limited
    schedule.want(situation("b", ()))
    assert schedule.wait(66.1) == 0


def test_the_pauses_of_a_backoff() -> None:
    backoff = Backoff(1, 5)
    assert backoff.wait(0) == 0
    assert [backoff.failed(now) for now in (0, 1, 3, 7)] == [1, 2, 4, 5]
    assert backoff.wait(8) == 4
    backoff.reset()
    assert backoff.wait(8) == 0
    assert backoff.failed(8) == 1


def test_a_token_bucket_permits_a_burst_and_then_one_per_period() -> None:
    bucket = TokenBucket(3, 10)
    for _ in range(3):
        assert bucket.wait(0) == 0
        bucket.take(0)
    assert bucket.wait(0) == 10
    assert bucket.wait(10) == 0
    bucket.take(10)
    assert bucket.wait(10) == 10
    assert bucket.wait(1000) == 0
