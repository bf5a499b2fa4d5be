"""When a running check is overdue."""

from math import inf

from pgstatus.monitor.running import RunningChecks


def test_a_check_is_overdue_after_its_own_time_and_reported_once() -> None:
    running = RunningChecks(lambda index: (0.5, 1.2)[index])
    assert running.next == inf
    running.begin(0, 10.0)
    running.begin(1, 10.0)
    assert running.next == 10.5
    assert running.overdue(10.4) == []
    # Responses that have arrived meanwhile are read before.
    assert running.overdue(10.5) == []
    assert running.overdue(running.next) == [(0, 10.0)]
    assert running.overdue(11.0) == []
    assert running.next == 11.2
    assert running.is_overdue(0, 11.0)
    running.end(0)
    assert not running.is_overdue(0, 11.0)
    assert not running.is_overdue(None, 11.0)
