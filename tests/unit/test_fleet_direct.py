"""When a relay checks the hosts itself."""

import pytest

from pgstatus.fleet.direct import Need


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("max_staleness", "spread"), [(6.0, 4.0), (3.0, 2.0), (0.0, 10.0)])
def test_it_begins_after_a_random_time_without_a_watcher(
    jitter: float, max_staleness: float, spread: float
) -> None:
    need = Need(max_staleness, lambda: jitter)
    assert not _update(need, 0.0, has_watcher=False)
    assert need.changes_at == pytest.approx(1 + spread * jitter)
    assert not _update(need, need.changes_at - 0.01, has_watcher=False)
    assert _update(need, need.changes_at, has_watcher=False)


def test_the_age_of_the_last_evidence_is_taken_into_account() -> None:
    need = Need(9.0, lambda: 1.0)
    need.update(10.0, 7.0, has_watcher=False)
    assert need.changes_at == 15.0


def test_a_short_absence_is_no_reason() -> None:
    need = Need(6.0, lambda: 0.0)
    for second in range(100):
        for tenth in range(10):
            now = second + tenth / 10
            assert not _update(need, now, has_watcher=tenth > 5)


def test_it_ends_when_a_watcher_is_stable() -> None:
    need = Need(6.0, lambda: 0.0)
    _update(need, 0.0, has_watcher=False)
    assert _update(need, 3.0, has_watcher=False)
    assert _update(need, 4.0, has_watcher=True)
    assert _update(need, 8.0, has_watcher=True)
    assert _update(need, 8.5, has_watcher=False)
    assert _update(need, 9.0, has_watcher=True)
    assert _update(need, 13.0, has_watcher=True)
    assert not _update(need, 14.5, has_watcher=True)


def _update(need: Need, now: float, *, has_watcher: bool) -> bool:
    need.update(now, now, has_watcher=has_watcher)
    return need.exists
