"""Requests that wait for a replica to replay what they have written.

All of them share the looks that the monitor takes; each is woken when a snapshot answers it. Only
so many may wait: the threads that are left answer everybody else.
"""

import threading
from collections.abc import Callable

from pgstatus.core.selection import Question, is_reached
from pgstatus.core.snapshot import Snapshot


class Waiters:
    """Places for ``capacity`` waiting requests. Safe to use from any thread.

    ``look`` is called when somebody begins to wait; the monitor sets it.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._waiting: dict[threading.Event, Question] = {}
        self.look: Callable[[], None] = lambda: None
        self._closed = False

    def wait(self, question: Question, timeout: float) -> None:
        """Return when a snapshot answers the question, or after ``timeout`` seconds.

        At once where all places are taken, or it was closed.
        """
        reached = threading.Event()
        with self._lock:
            if self._closed or len(self._waiting) >= self._capacity:
                return
            self._waiting[reached] = question
        try:
            self.look()
            reached.wait(timeout)
        finally:
            with self._lock:
                self._waiting.pop(reached, None)

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def is_awaited(self, snapshot: Snapshot) -> bool:
        """The snapshot answers somebody who waits."""
        with self._lock:
            questions = set(self._waiting.values())
        return any(is_reached(snapshot, question) for question in questions)

    def release(self, snapshot: Snapshot) -> None:
        """Wake all whom the snapshot answers; it must be published already."""
        with self._lock:
            for reached, question in self._waiting.items():
                if is_reached(snapshot, question):
                    reached.set()

    def close(self) -> None:
        """Wake everybody: nobody waits here any more."""
        with self._lock:
            self._closed = True
            for reached in self._waiting:
                reached.set()
