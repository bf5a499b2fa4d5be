"""Delivers the states of a question to one callback of the application."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pgstatus.client.watching import State, key_of

logger = logging.getLogger("pgstatus.client")

Run = Callable[[Callable[[], None]], None]
"""Runs a function, in this thread or in an event loop. RuntimeError: the loop is closed."""


class Listener:
    """A callback, which is called with each changed state and never by two threads at once."""

    def __init__(
        self, callback: Callable[[Any], None], run: Run, closed: Callable[[], None] | None = None
    ) -> None:
        self.removed = False
        self._callback = callback
        self._run = run
        self._closed = closed
        self._lock = threading.Lock()
        self._state: State | None = None
        self._key: object = None

    def offer(self, state: State) -> bool:
        """The latest state. False: it cannot be delivered any more."""
        self._state = state
        try:
            self._run(self._deliver)
        except RuntimeError:
            return False  # the event loop is closed
        return True

    def close(self) -> None:
        """There will be no other state, because the client is closed."""
        self.removed = True
        if self._closed is not None:
            with suppress(RuntimeError):
                self._run(self._closed)

    def forked(self) -> None:
        """This is a forked child: another thread may hold the lock."""
        self._lock = threading.Lock()

    def _deliver(self) -> None:
        with self._lock:
            state = self._state
            if state is None or self.removed:
                return
            key = key_of(state)
            if key == self._key:
                return
            self._key = key
            try:
                self._callback(state)
            except Exception:
                logger.exception("a callback for changes failed")
