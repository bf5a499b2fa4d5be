"""The time lag is an upper bound in every situation in which other bounds fail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgstatus.core.lag import WalHistory, byte_lag, is_ahead, time_lag
from tests.support.world import CLOCK, master, replica


def history(*samples: tuple[float, int]) -> WalHistory:
    result = WalHistory()
    for at, lsn in samples:
        result = result.add(master(at, lsn))
    return result


def test_without_a_sample_of_the_master_it_is_unknown() -> None:
    assert time_lag(WalHistory(), replica(5.0)) is None
    assert byte_lag(WalHistory().end, replica(5.0)) is None


def test_a_standby_that_has_replayed_nothing_is_unknown() -> None:
    assert time_lag(history((0, 1000)), replica(5.0, lsn=None)) is None


def test_idle_primary_means_no_lag_however_old_the_last_transaction() -> None:
    idle = history((0, 1000), (5, 1000), (10, 1000))
    assert time_lag(idle, replica(10.0, 1000, replayed_at=CLOCK - 86_400)) == pytest.approx(0.001)


def test_a_cut_link_grows_although_receive_equals_replay() -> None:
    writing = history((0, 1000), (5, 2000), (10, 3000), (15, 4000))
    cut = [time_lag(writing, replica(at, 2000)) for at in (10.0, 15.0, 20.0)]
    assert cut == pytest.approx([5.001, 10.001, 15.001])


def test_with_the_primary_out_of_sight_it_grows() -> None:
    last_seen = history((0, 1000))
    assert time_lag(last_seen, replica(60.0, 1000)) == pytest.approx(60.001)


def test_a_replica_that_has_not_passed_the_first_sample_is_unknown() -> None:
    assert time_lag(history((0, 1000)), replica(5.0, 999, replayed_at=CLOCK + 4)) is None


def test_the_last_transaction_sharpens_the_bound() -> None:
    writing = history((0, 1000), (5, 2000))
    assert time_lag(writing, replica(5.0, 1900, replayed_at=CLOCK + 4.9)) == pytest.approx(0.101)


@pytest.mark.parametrize("skew", [-600.0, -6.0, 6.0, 600.0])
def test_a_transaction_of_a_master_with_a_wrong_clock_is_not_believed(skew: float) -> None:
    # Its time stamp was made by another host than the one whose clock the samples carry.
    writing = history((0, 1000), (5, 2000))
    lag = time_lag(writing, replica(5.0, 1900, replayed_at=CLOCK + 3 + skew))
    assert lag == pytest.approx(5.001)


@pytest.mark.parametrize("skew", [-600.0, 600.0])
def test_a_master_whose_clock_differs_from_ours_and_the_replicas_does_not_matter(
    skew: float,
) -> None:
    writing = WalHistory()
    for at, lsn in ((0.0, 1000), (5.0, 2000)):
        writing = writing.add(master(at, lsn, host_time=CLOCK + at + skew))
    lag = time_lag(writing, replica(5.0, 1900, replayed_at=CLOCK + 4.9 + skew))
    assert lag == pytest.approx(0.101)


@given(
    step=st.floats(-20, 20),
    stepped_at=st.floats(0.01, 4.99),
    committed_at=st.floats(0.01, 4.99),
    asked_at=st.floats(5, 30),
)
def test_a_clock_that_is_set_between_two_samples_makes_no_replica_younger(
    step: float, stepped_at: float, committed_at: float, asked_at: float
) -> None:
    """The master's clock jumps by ``step``; all that was committed after the last is missing."""
    writing = WalHistory().add(master(0.0, 1000))
    writing = writing.add(master(5.0, 2000, host_time=CLOCK + 5 + step))
    stamp = CLOCK + committed_at + (step if committed_at >= stepped_at else 0)
    lag = time_lag(writing, replica(asked_at, 1900, replayed_at=stamp))
    assert lag is not None
    assert lag >= asked_at - committed_at - 1e-6


def test_a_time_stamp_that_no_later_sample_confirms_is_not_believed() -> None:
    """The clock may have been set since the last one."""
    lag = time_lag(history((0, 1000)), replica(3.0, 1900, replayed_at=CLOCK + 2.9))
    assert lag == pytest.approx(3.001)


def test_samples_of_a_newer_timeline_say_nothing_of_an_older_one() -> None:
    switched = history((0, 1000)).add(master(5.0, 900, timeline=2))
    assert time_lag(switched, replica(10.0, 1500, timeline=1)) == pytest.approx(10.001)
    assert time_lag(switched, replica(10.0, 1500, timeline=2)) == pytest.approx(5.001)


def test_a_replica_ahead_of_a_master_checked_later_has_another_history() -> None:
    assert is_ahead(history((5, 1000)), replica(4.0, 1001))
    assert not is_ahead(history((3, 1000)), replica(4.0, 1001))


def test_the_history_keeps_its_bound_and_its_reach() -> None:
    long = history(*((float(n), n) for n in range(5000)))
    assert len(long.samples) <= 512
    assert long.samples[0].taken == 0.0
    for behind in (1, 10, 300, 4000):
        lag = time_lag(long, replica(5000.0, 5000 - behind))
        assert lag is not None
        assert behind <= lag


@given(
    steps=st.lists(st.tuples(st.floats(0.001, 100), st.integers(0, 5000)), min_size=1, max_size=40),
    replayed=st.integers(0, 100_000),
    delay=st.floats(0, 1000),
    transaction_age=st.floats(0, 10_000),
    skew=st.floats(-1000, 1000),
)
def test_never_below_the_truth(
    steps: list[tuple[float, int]],
    replayed: int,
    delay: float,
    transaction_age: float,
    skew: float,
) -> None:
    """The replica misses everything written after ``replayed``; the bound covers its age.

    The time stamp may be anything; only the bracket of one pause may be wrong by it.
    """
    at, lsn, longest = 0.0, 0, 0.0
    samples = []
    for pause, written in steps:
        at, lsn, longest = at + pause, lsn + written, max(longest, pause)
        samples.append((at, lsn))
    now = at + delay
    seen = replica(now, replayed, replayed_at=CLOCK + now - transaction_age + skew)
    lag = time_lag(history(*samples), seen)
    missing = [taken for taken, position in samples if position > replayed]
    if lag is None:
        assert samples[0][1] > replayed
    else:
        assert lag >= 0
        if missing:
            assert lag >= now - missing[0] - 1e-6
