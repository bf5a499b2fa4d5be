"""Counters of requests and checks."""

import threading

import pytest

from pgstatus.core.snapshot import Failure, Host
from pgstatus.errors import Cause
from pgstatus.telemetry.counters import DURATION_LIMITS, Checks, RequestKind, Requests
from tests.support.world import master, refused, replica

A, B = Host("a", 5432), Host("b", 5432)
MASTER = RequestKind("/master", "200", fell_back=False)


def test_a_kind_has_one_tally() -> None:
    requests = Requests()
    tally = requests.of(MASTER)
    tally.count += 1
    requests.of(RequestKind("/master", "200", fell_back=False)).count += 1
    requests.of(MASTER._replace(status="404")).count += 1
    assert tally.count == 2
    assert requests.read() == {MASTER: 2, MASTER._replace(status="404"): 1}


def test_a_copy_that_was_read_does_not_change() -> None:
    requests = Requests()
    requests.of(MASTER).count += 1
    seen = requests.read()
    requests.of(MASTER).count += 1
    assert seen == {MASTER: 1}


def test_reading_while_kinds_are_added() -> None:
    """A scrape runs in a thread while the worker counts."""
    requests = Requests()
    reading = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not reading.is_set():
                requests.read()
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(20_000):
        requests.of(RequestKind(str(number), "200", fell_back=False)).count += 1
    reading.set()
    thread.join()
    assert failures == []
    assert sum(requests.read().values()) == 20_000


@pytest.mark.parametrize(
    ("took", "bucket"),
    [(0.0, 0), (0.001, 0), (0.0011, 1), (0.3, 8), (10.0, 12), (10.1, len(DURATION_LIMITS))],
)
def test_the_bucket_of_a_duration(took: float, bucket: int) -> None:
    checks = Checks()
    checks.watch([A])
    checks.checked(A, master(0.0, finished=took), took)
    counts = checks.hosts["a:5432"]
    assert counts.durations == [int(i == bucket) for i in range(len(DURATION_LIMITS) + 1)]
    assert counts.seconds == took


def test_a_failure_counts_by_its_cause_and_as_a_check() -> None:
    checks = Checks()
    checks.watch([A, B])
    checks.checked(A, refused(1.0), 0.001)
    checks.checked(A, refused(2.0), 0.001)
    checks.checked(A, Failure(Cause.TIMEOUT, "no answer", 3.0, 8.0), 5.0)
    counts = checks.hosts["a:5432"]
    assert +counts.failures == {"connect": 2, "timeout": 1}
    assert sum(counts.durations) == 3
    assert counts.seconds == pytest.approx(5.002)
    assert +checks.hosts["b:5432"].failures == {}


def test_all_causes_exist_from_the_start() -> None:
    """rate() ignores the step from no value to 1."""
    checks = Checks()
    checks.watch([A])
    assert checks.hosts["a:5432"].failures == dict.fromkeys(Cause, 0)


def test_a_change_of_the_role() -> None:
    checks = Checks()
    checks.watch([A])
    for result in (replica(0), replica(1), refused(2), replica(3)):
        checks.checked(A, result, 0.001)
    assert checks.hosts["a:5432"].role_changes == 0
    for result in (master(4), refused(5), master(6), replica(7)):
        checks.checked(A, result, 0.001)
    assert checks.hosts["a:5432"].role_changes == 2


def test_counters_of_a_removed_host_are_removed() -> None:
    checks = Checks()
    checks.watch([A, B])
    checks.checked(A, master(0), 0.001)
    checks.checked(B, replica(0), 0.001)
    checks.watch([A])
    assert list(checks.hosts) == ["a:5432"]
    assert sum(checks.hosts["a:5432"].durations) == 1
    checks.checked(B, replica(1), 0.001)  # it was under way
    assert list(checks.hosts) == ["a:5432"]
    checks.watch([A, B])
    assert sum(checks.hosts["b:5432"].durations) == 0
