"""Pauses: normal, fast in a failover, easing off when it lasts."""

from hypothesis import given
from hypothesis import strategies as st

from pgstatus.core.schedule import Schedule

RHYTHM = Schedule(sleep=5.0, failover_sleep=0.1)


def test_a_first_broken_connection_is_looked_after_at_once_many_in_a_row_more_seldom() -> None:
    assert [RHYTHM.patience(n) for n in range(8)] == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert RHYTHM.patience(10_000) == 5.0


def test_pauses() -> None:
    assert RHYTHM.pause(None) == 5.0
    assert [RHYTHM.pause(s) for s in (0, 30, 60, 75, 90)] == [0.1, 0.1, 0.1, 0.2, 0.4]
    assert RHYTHM.pause(3600) == 5.0
    assert RHYTHM.pause(1e12) == 5.0


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_it_only_eases_off(one: float, other: float) -> None:
    earlier, later = sorted((one, other))
    assert 0.1 <= RHYTHM.pause(earlier) <= RHYTHM.pause(later) <= 5.0
