"""How changes reach the application: callbacks and iterators, for asyncio and for threads.

Only the latest state is delivered: a slow application does not get a queue of outdated ones.
"""

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from pgstatus.client.listener import Listener
from pgstatus.client.request import Request
from pgstatus.client.streams import Streams

logger = logging.getLogger("pgstatus.client")


class AsyncWatching(Streams):
    """For asyncio: callbacks run in the event loop that was running when they were added."""

    def on_change(self, request: Request, callback: Callable[[Any], None]) -> Callable[[], None]:
        """Call it with the first state and after each change; the result ends that."""
        return self.listen(request, Listener(callback, _in_this_loop()))

    def changes(self, request: Request) -> "AsyncChanges":
        """An iterator over the states."""
        return AsyncChanges(self, request)


class Watching(Streams):
    """For threads: callbacks run in a thread of the client."""

    def on_change(self, request: Request, callback: Callable[[Any], None]) -> Callable[[], None]:
        """Call it with the first state and after each change; the result ends that."""
        return self.listen(request, Listener(callback, _in_this_thread))

    def changes(self, request: Request) -> "Changes":
        """An iterator over the states."""
        return Changes(self, request)


class _Latest:
    """The latest state that the application has not taken yet."""

    def __init__(self, is_set: "asyncio.Event | threading.Event") -> None:
        self.is_set = is_set
        self._state: Any = None
        self._is_closed = False

    def put(self, state: Any) -> None:
        self._state = state
        self.is_set.set()

    def close(self) -> None:
        self._is_closed = True
        self.is_set.set()

    def take(self) -> Any | None:
        """The state; None: the client was closed."""
        if self._is_closed:
            return None
        # In this order: a state that arrives in between is taken again, but not lost.
        self.is_set.clear()
        return self._state


class AsyncChanges:
    """The states of one question. It ends when the client is closed."""

    def __init__(self, watching: Streams, request: Request) -> None:
        self._watching = watching  # the streams of a client end with it
        self._request = request
        self._latest: _Latest | None = None

    def __aiter__(self) -> "AsyncChanges":
        return self

    async def __anext__(self) -> Any:
        if self._latest is None:
            is_set = asyncio.Event()
            self._latest = latest = _Latest(is_set)
            listener = Listener(latest.put, _in_this_loop(), latest.close)
            weakref.finalize(self, self._watching.listen(self._request, listener))
        await self._latest.is_set.wait()  # type: ignore[misc]
        state = self._latest.take()
        if state is None:
            raise StopAsyncIteration
        return state


class Changes:
    """The states of one question. It ends when the client is closed."""

    def __init__(self, watching: Streams, request: Request) -> None:
        self._watching = watching  # the streams of a client end with it
        self._request = request
        self._latest: _Latest | None = None

    def __iter__(self) -> "Changes":
        return self

    def __next__(self) -> Any:
        if self._latest is None:
            self._latest = latest = _Latest(threading.Event())
            listener = Listener(latest.put, _in_this_thread, latest.close)
            weakref.finalize(self, self._watching.listen(self._request, listener))
        self._watching.resume()
        self._latest.is_set.wait()
        state = self._latest.take()
        if state is None:
            raise StopIteration
        return state


def _in_this_thread(function: Callable[[], None]) -> None:
    try:
        function()
    except BaseException:
        # SystemExit, for example: it would end the notifications.
        logger.exception("a callback for changes failed")


def _in_this_loop() -> Callable[[Callable[[], None]], None]:
    loop, process = asyncio.get_running_loop(), os.getpid()

    def run(function: Callable[[], None]) -> None:
        if os.getpid() != process:
            raise RuntimeError("this event loop belongs to the parent process")
        loop.call_soon_threadsafe(function)

    return run
