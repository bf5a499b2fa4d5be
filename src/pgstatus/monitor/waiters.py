"""Requests that wait for a replica to replay a position.

All of them share the position checks of the monitor. A waiting request holds no thread: its `wake`
function is called once, in the monitoring thread, when a snapshot answers its question.
"""

import threading
from collections.abc import Callable

from pgstatus.core.selection import Question, is_reached
from pgstatus.core.snapshot import Snapshot


class Waiter:
    """One waiting request; ``wake`` returns at once and may be called from any thread."""

    __slots__ = ("question", "wake")

    def __init__(self, question: Question, wake: Callable[[], None]) -> None:
        self.question = question
        self.wake = wake


class Waiters:
    """At most ``capacity`` waiting requests. Safe to use from any thread.

    ``look`` is called when a request begins to wait; the monitor sets it.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._waiting: set[Waiter] = set()
        self._closed = False
        self.look: Callable[[], None] = lambda: None

    def add(self, question: Question, wake: Callable[[], None]) -> Waiter | None:
        """Begin to wait; None: not possible, because the limit is reached or it was closed."""
        waiter = Waiter(question, wake)
        with self._lock:
            if self._closed or len(self._waiting) >= self._capacity:
                return None
            self._waiting.add(waiter)
        self.look()
        return waiter

    def discard(self, waiter: Waiter) -> None:
        """Stop waiting; ``wake`` may just have been called."""
        with self._lock:
            self._waiting.discard(waiter)

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def is_awaited(self, snapshot: Snapshot) -> bool:
        """The snapshot answers at least one waiting request."""
        with self._lock:
            questions = {waiter.question for waiter in self._waiting}
        return any(is_reached(snapshot, question) for question in questions)

    def release(self, snapshot: Snapshot) -> None:
        """Wake the requests that the snapshot answers; it must be published already."""
        with self._lock:
            reached = {
                question
                for question in {waiter.question for waiter in self._waiting}
                if is_reached(snapshot, question)
            }
            woken = {waiter for waiter in self._waiting if waiter.question in reached}
            self._waiting -= woken
        for waiter in woken:
            waiter.wake()

    def close(self) -> None:
        """Wake all; no request waits here from now on."""
        with self._lock:
            self._closed = True
            woken, self._waiting = self._waiting, set()
        for waiter in woken:
            waiter.wake()
