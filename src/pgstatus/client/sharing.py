"""One run for all callers that need the same result at the same time, for asyncio and for threads.

A caller that is cancelled or interrupted does not affect the others.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import Future
from functools import partial
from typing import Any

from pgstatus.client.errors import UnreachableError


class AsyncSharing:
    """Each run is a task of its own, so that no caller can cancel it."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[Hashable, asyncio.Task[Any]] = {}

    async def run(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """The result of ``work``, or of the run with the same key that is in progress."""
        task = self._find(key)
        return await asyncio.shield(self._start(key, work) if task is None else task)

    def start(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run ``work`` in the background, unless a run with the same key is in progress."""
        if self._find(key) is None:
            self._start(key, work)

    async def wait(self) -> None:
        """Wait until the runs in progress have ended."""
        self._enter_loop()
        if self._running:
            await asyncio.wait(tuple(self._running.values()))

    def _find(self, key: Hashable) -> "asyncio.Task[Any] | None":
        self._enter_loop()
        return self._running.get(key)

    def _enter_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # A test suite may use one event loop after another. The tasks of the previous one have
            # ended with it.
            self._loop, self._running = loop, {}

    def _start(
        self, key: Hashable, work: Callable[[], Coroutine[Any, Any, Any]]
    ) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(work())
        self._running[key] = task
        task.add_done_callback(partial(self._ended, key))
        return task

    def _ended(self, key: Hashable, task: "asyncio.Task[Any]") -> None:
        if self._running.get(key) is task:
            del self._running[key]
        if not task.cancelled():
            task.exception()  # retrieved, because every caller may have been cancelled


class Sharing:
    """The first caller runs the work in its own thread, the others wait for it."""

    def __init__(self) -> None:
        self._reset()

    def run(self, key: Hashable, work: Callable[[], Any]) -> Any:
        """The result of ``work``, or of the run with the same key that is in progress."""
        future, is_own = self._join(key)
        if is_own:
            self._run(key, work, future)
        return future.result()

    def start(self, key: Hashable, work: Callable[[], Any]) -> None:
        """Run ``work`` in the background, unless a run with the same key is in progress."""
        future, is_own = self._join(key)
        if is_own:
            # A daemon thread: it does not delay the end of the program.
            threading.Thread(
                target=self._run, args=(key, work, future), name="pg-status-client", daemon=True
            ).start()

    def wait(self) -> None:
        """Wait until the runs in progress have ended."""
        with self._lock:
            running = tuple(self._running.values())
        for future in running:
            future.exception()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._running: dict[Hashable, Future[Any]] = {}

    def _join(self, key: Hashable) -> "tuple[Future[Any], bool]":
        if os.getpid() != self._pid:
            # A forked child does not have the threads of its parent.
            self._reset()
        with self._lock:
            future = self._running.get(key)
            if future is not None:
                return future, False
            future = self._running[key] = Future()
            return future, True

    def _run(self, key: Hashable, work: Callable[[], Any], future: "Future[Any]") -> None:
        try:
            result = work()
        except BaseException as error:
            self._remove(key)
            if isinstance(error, Exception):
                future.set_exception(error)
                return
            # KeyboardInterrupt and SystemExit are for this thread only.
            future.set_exception(
                UnreachableError("the thread that sent the request was interrupted")
            )
            raise
        self._remove(key)
        future.set_result(result)

    def _remove(self, key: Hashable) -> None:
        with self._lock:
            del self._running[key]
