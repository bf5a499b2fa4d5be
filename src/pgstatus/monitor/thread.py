"""The monitoring thread: one asyncio loop, in which the monitors of all clusters run as tasks.

All hosts are checked at once, so that a dead host or cluster delays no other.
"""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)

_HEARTBEAT = 1.0
# Seconds between the beginnings of two monitors.
_BETWEEN_STARTS = 0.01

Main = Callable[[], Coroutine[Any, Any, None]]
"""A coroutine function that never raises; when the thread ends, it is cancelled."""


class MonitoringThread:
    """``heartbeat`` is called in the thread about once a second. Safe in any thread."""

    def __init__(self, heartbeat: Callable[[], None] = lambda: None) -> None:
        self._heartbeat = heartbeat
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[Main] = deque()
        """To be run when there is a loop."""
        self._is_beginning = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = threading.Event()
        self._stopped: asyncio.Event | None = None

    def start(self) -> None:
        """Start the thread unless it runs. RuntimeError: the system has none left."""
        with self._lock:
            if self._thread is not None or self._stopping.is_set():
                return
            thread = threading.Thread(target=self._main, name="monitor", daemon=True)
            thread.start()
            self._thread = thread

    def stop(self, timeout: float) -> None:
        """End the thread and all that runs in it; wait ``timeout`` seconds at most."""
        self._stopping.set()
        with self._lock:
            thread, stopped = self._thread, self._stopped
        if stopped is not None:
            self.call(stopped.set)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def run(self, main: Main) -> None:
        """Run ``main()`` in the thread as soon as it has been started.

        RuntimeError: the thread has ended, and no other can be started; it will not be run.
        """
        with self._lock:
            self._waiting.append(main)
        try:
            self.start()
        except RuntimeError:
            with self._lock:
                self._waiting.remove(main)
            raise
        self.call(self._begin)

    def call(self, function: Callable[[], object]) -> None:
        """Call ``function`` in the thread soon; without effect if it does not run."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(function)

    def _begin(self) -> None:
        if not self._is_beginning:
            self._is_beginning = True
            self._create_task(self._begin_all())

    async def _begin_all(self) -> None:
        """Begin what waits, one after the other: if hundreds of monitors began at once, this thread
        could not complete their logins in time.
        """
        loop = asyncio.get_running_loop()
        try:
            while (main := self._next()) is not None:
                self._begin_one(main)
                began = loop.time()
                await asyncio.sleep(_BETWEEN_STARTS)
                # How busy the loop is.
                await asyncio.sleep(loop.time() - began - _BETWEEN_STARTS)
        finally:
            self._is_beginning = False

    def _next(self) -> Main | None:
        with self._lock:
            # If the loop is about to be closed, the next one runs the others.
            is_ending = self._loop is None or self._stopping.is_set()
            return None if is_ending or not self._waiting else self._waiting.popleft()

    def _begin_one(self, main: Main) -> None:
        has_begun = False

        async def run() -> None:
            nonlocal has_begun
            has_begun = True
            await main()

        def ended(task: asyncio.Task[None]) -> None:
            if not has_begun:  # the loop has ended before: it could not report that
                with self._lock:
                    self._waiting.appendleft(main)

        self._create_task(run()).add_done_callback(ended)

    def _create_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _main(self) -> None:
        is_needed = True
        while is_needed:
            try:
                runner = asyncio.Runner()
                if self._has_event_loop(runner):
                    with runner:
                        runner.run(self._run())
            except BaseException:
                log.critical("the monitoring thread failed", exc_info=True)
            finally:
                with self._lock:
                    # What `run` has received since the loop ended; otherwise `run` starts a thread.
                    is_needed = bool(self._waiting) and not self._stopping.is_set()
                    if not is_needed:
                        self._thread = None

    def _has_event_loop(self, runner: asyncio.Runner) -> bool:
        """Wait until the system has the descriptors that the loop needs; False: stopped before."""
        while not self._stopping.is_set():
            try:
                runner.get_loop()
            except OSError as error:
                log.error("the monitoring thread cannot start yet: %s", error)
                self._heartbeat()
                self._stopping.wait(_HEARTBEAT)
            else:
                return True
        return False

    async def _run(self) -> None:
        stopped = asyncio.Event()
        with self._lock:
            self._loop, self._stopped = asyncio.get_running_loop(), stopped
        self._tasks.clear()
        self._is_beginning = False
        try:
            self._begin()
            # If the heartbeat fails, it is a failure of what has begun.
            await asyncio.sleep(_BETWEEN_STARTS)
            while not self._stopping.is_set():
                self._heartbeat()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_HEARTBEAT):
                        await stopped.wait()
            # Monitors that were stopped close their connections.
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_HEARTBEAT)
        finally:
            # Tasks that begin from now on would not be cancelled.
            with self._lock:
                self._loop = self._stopped = None
