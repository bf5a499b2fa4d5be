"""The timers of the HTTP server's event loop."""

import tracemalloc
from collections.abc import Iterator

import pytest

from pgstatus.http.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def test_timers_run_in_their_order(loop: Loop) -> None:
    ran: list[int] = []
    for number in (3, 1, 2):
        loop.call_at(loop.now + number / 1000, lambda number=number: ran.append(number))  # type: ignore[misc]
    while len(ran) < 3:
        loop.turn(1.0)
    assert ran == [1, 2, 3]


def test_cancelled_timers_do_not_accumulate(loop: Loop) -> None:
    """Long polls that clients give up; each of them would wait 30 s."""
    ran: list[int] = []
    kept = [loop.call_at(loop.now + 0.001, lambda: ran.append(1)) for _ in range(10)]
    tracemalloc.start()
    for _ in range(200_000):
        loop.call_at(loop.now + 30, lambda: ran.append(2)).cancel()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 2**20
    kept[0].cancel()
    kept[0].cancel()
    while len(ran) < 9:
        loop.turn(1.0)
    assert ran == [1] * 9


def test_a_timer_that_cancels_another_one_of_the_same_moment(loop: Loop) -> None:
    ran: list[str] = []
    when = loop.now
    second = loop.call_at(when, lambda: ran.append("second"))
    loop.call_at(when - 1, second.cancel)
    loop.turn(0.0)
    loop.turn(0.0)
    assert ran == []
