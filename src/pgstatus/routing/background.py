"""Work that a caller does not wait for, in tasks and in threads: pools are closed."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any


class AsyncBackground:
    """Tasks."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        # The event loop holds only weak references to tasks.
        task = asyncio.get_running_loop().create_task(work())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def wait(self) -> None:
        """Wait until all work that was started has ended."""
        if self._running:
            await asyncio.wait(tuple(self._running))


class Background:
    """Threads."""

    def __init__(self) -> None:
        self._running: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def start(self, work: Callable[[], None]) -> None:
        # A daemon thread: it does not delay the end of the program.
        thread = threading.Thread(target=self._run, args=(work,), name="pg-status", daemon=True)
        with self._lock:  # `wait` finds no thread that is not started yet
            thread.start()
            self._running.add(thread)

    def wait(self) -> None:
        """Wait until all work that was started has ended."""
        with self._lock:
            running = tuple(self._running)
        for thread in running:
            thread.join()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            with self._lock:
                self._running.discard(threading.current_thread())
