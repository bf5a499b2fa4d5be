"""The token bucket."""

from pgstatus.core.bucket import Bucket


def test_a_rate_and_a_burst_of_one_second() -> None:
    bucket = Bucket(10)
    assert [bucket.take(5.0) for _ in range(11)] == [True] * 10 + [False]
    assert bucket.take(5.125)
    assert not bucket.take(5.125)


def test_a_rate_below_one_per_second() -> None:
    bucket = Bucket(0.1)
    assert [bucket.take(at) for at in (0, 5, 9.9, 10.1, 15)] == [True, False, False, True, False]


def test_a_rate_of_zero_allows_nothing() -> None:
    bucket = Bucket(0)
    assert not any(bucket.take(float(second)) for second in range(100))


def test_a_clock_that_goes_back_gains_nothing() -> None:
    bucket = Bucket(1)
    assert [bucket.take(at) for at in (10, 0, 10)] == [True, False, False]


def test_how_long_to_wait() -> None:
    bucket = Bucket(1 / 15, burst=2)
    assert bucket.wait(0) == 0
    bucket.take(0)
    bucket.take(0)
    assert [round(bucket.wait(at), 6) for at in (0, 5, 15)] == [15, 10, 0]
