"""The event loop of the HTTP server: epoll, timers, and calls from other threads.

Neither `selectors` nor asyncio: `selectors` makes a named tuple and a list of them for every event,
1.5 µs of the 8 µs that a response from the cache costs, and asyncio's streams cost several times
that.
"""

import contextlib
import heapq
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from pgstatus import clock

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
END = select.EPOLLRDHUP
"""The other side has closed the connection, or its half of it."""


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


# Cancelled timers that are kept until they are due; of more, at most as many as of others.
_CANCELLED = 1000


class Timer:
    """A call at a point in time, until it is cancelled."""

    __slots__ = ("_loop", "callback", "when")

    def __init__(self, loop: "Loop", when: float, callback: Callable[[], object]) -> None:
        self._loop = loop
        self.when = when
        self.callback: Callable[[], object] | None = callback

    def __lt__(self, other: "Timer") -> bool:
        return self.when < other.when

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._loop.timer_cancelled()


class Loop:
    """Calls ``callback(fileobj)`` for every registered file that is ready.

    All methods but `wake` and `call` belong to the thread of the loop.
    """

    def __init__(self) -> None:
        self.on_error: Callable[[Any], object] = lambda fileobj: None
        """Called with the file whose callback has raised an exception; None for other calls."""
        self._epoll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_open = True
        # Reentrant: a signal handler may interrupt `wake`.
        self._lock = threading.RLock()
        self._callbacks: dict[int, tuple[Callable[[Any], object], Any]] = {}
        self._calls: deque[Callable[[], object]] = deque()
        self._timers: list[Timer] = []
        self._cancelled = 0
        """How many of them are cancelled, at most."""
        self.now = clock.now()
        """When this turn of the loop began."""
        self.register(self._wakeup, READ, self._run_calls)

    def register(
        self, fileobj: _HasFileno | int, events: int, callback: Callable[[Any], object]
    ) -> None:
        """Watch a file that is not watched yet. OSError: the kernel has no memory for it."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._epoll.register(fd, events)
        self._callbacks[fd] = (callback, fileobj)

    def modify(
        self, fileobj: _HasFileno | int, events: int, callback: Callable[[Any], object]
    ) -> None:
        """Watch a file for other events, or with another callback."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._epoll.modify(fd, events)
        self._callbacks[fd] = (callback, fileobj)

    def unregister(self, fileobj: _HasFileno | int) -> None:
        """Stop watching a file that stays open."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._epoll.unregister(fd)
        del self._callbacks[fd]

    def forget(self, fileobj: _HasFileno) -> None:
        """Stop watching a file that is closed next, which removes it from epoll."""
        self._callbacks.pop(fileobj.fileno(), None)

    def wake(self) -> None:
        """End the turn that is waiting. Safe in any thread and in signal handlers."""
        with self._lock, contextlib.suppress(BlockingIOError):  # it is awake
            if self._is_open:
                os.eventfd_write(self._wakeup, 1)

    def call(self, callback: Callable[[], object]) -> None:
        """Run a function in the loop. Safe in any thread."""
        self._calls.append(callback)
        self.wake()

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Run a function at ``when`` (the clock of `clock.now`), or a little later."""
        timer = Timer(self, when, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def timer_cancelled(self) -> None:
        """Of a `Timer`. Clients that give up long polls must not leave their timers behind."""
        self._cancelled += 1
        if self._cancelled > max(_CANCELLED, len(self._timers) // 2):
            # In place: `turn` has a reference.
            self._timers[:] = [timer for timer in self._timers if timer.callback is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def turn(self, timeout: float) -> None:
        """Wait ``timeout`` seconds at most, then call back everything that is ready."""
        timers = self._timers
        if timers:
            # epoll rounds up to whole milliseconds.
            timeout = max(0.0, min(timeout, timers[0].when - clock.now()))
        ready = self._epoll.poll(timeout)
        self.now = now = clock.now()
        callbacks = self._callbacks
        for fd, _ in ready:
            found = callbacks.get(fd)
            # A callback before may have closed it.
            if found is not None:
                try:
                    found[0](found[1])
                except Exception:  # one client, or a moment without memory, must not end the loop
                    self.on_error(found[1])
        # Not the timers that these add: other files come first.
        due: list[Timer] = []
        while timers and timers[0].when <= now:
            due.append(heapq.heappop(timers))
        for timer in due:
            if timer.callback is None:
                self._cancelled -= 1
                continue
            # A cancellation by its own callback is without effect.
            callback, timer.callback = timer.callback, None
            self._run(callback)

    def close(self) -> None:
        """Stop watching files. `wake` and `call` may still be called."""
        # Other threads may call `wake` later, when the descriptor may belong to another file.
        with self._lock:
            self._is_open = False
            os.close(self._wakeup)
        self._epoll.close()

    def _run_calls(self, _: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wakeup)
        # Not those that are added meanwhile: other files come first.
        for _number in range(len(self._calls)):
            self._run(self._calls.popleft())

    def _run(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:
            self.on_error(None)
