"""The thread in which the monitors of all clusters run."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from pgstatus.monitor.thread import MonitoringThread
from tests.support.waiting import wait_until


class Defect:
    """A heartbeat that fails when it is told to."""

    def __init__(self) -> None:
        self.is_due = False

    def __call__(self) -> None:
        if self.is_due:
            self.is_due = False
            raise ZeroDivisionError


def test_others_have_their_turn_between_the_beginnings_of_two() -> None:
    """Hundreds of logins at once would exceed their deadlines."""
    thread = MonitoringThread()
    turns = 0
    begun: list[int] = []

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def begin() -> None:
        begun.append(turns)

    thread.run(count)
    for _ in range(20):
        thread.run(begin)
    wait_until("all have begun", lambda: len(begun) == 20)
    thread.stop(5)
    assert len(set(begun)) == 20


def test_what_begins_while_the_loop_fails_is_run_by_the_next() -> None:
    """A monitor that has failed is started again at once, in another thread."""
    defect = Defect()
    thread = MonitoringThread(defect)
    ended, restarted = threading.Event(), threading.Event()

    async def monitor() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            thread.run(again)
            # The loop could run it now, and would end before it has.
            await asyncio.sleep(0)
            ended.set()

    async def again() -> None:
        await asyncio.sleep(0.1)
        restarted.set()

    thread.run(monitor)
    wait_until("it runs", lambda: _runs(thread))
    defect.is_due = True
    assert ended.wait(10)
    assert restarted.wait(10)
    thread.stop(5)


def test_what_had_no_time_to_begin_before_the_loop_failed_is_run_by_the_next() -> None:
    defect = Defect()
    thread = MonitoringThread(defect)
    begun: list[int] = []

    def main(number: int) -> Callable[[], Coroutine[Any, Any, None]]:
        async def begin() -> None:
            begun.append(number)

        return begin

    defect.is_due = True
    for number in range(20):
        thread.run(main(number))
    wait_until("all have begun", lambda: len(begun) == 20)
    thread.stop(5)
    assert begun == list(range(20))


def _runs(thread: MonitoringThread) -> bool:
    called = threading.Event()
    thread.call(called.set)
    return called.wait(0.1)


def test_a_stop_begins_nothing_more() -> None:
    thread = MonitoringThread()
    begun: list[int] = []

    def main(number: int) -> Callable[[], Coroutine[Any, Any, None]]:
        async def begin() -> None:
            begun.append(number)

        return begin

    for number in range(5000):
        thread.run(main(number))
    wait_until("the first has begun", lambda: begun)
    thread.stop(5)
    count = len(begun)
    assert count < 5000
    assert begun == list(range(count))
    thread.run(main(5000))
    assert len(begun) == count
