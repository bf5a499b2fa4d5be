"""Blocking functions that cannot be cancelled, each in a daemon thread of its own; and `wake`.

A pool would be exhausted by a few name servers or hosts that do not respond (asyncio's has six
threads on two cores), and would delay the end of the process.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_thread(
    function: Callable[[], T], name: str, discard: Callable[[T], None] = lambda result: None
) -> "asyncio.Future[T]":
    """Call ``function`` in a thread; OSError if the system has no thread left.

    Await the future with `asyncio.shield`, so that it ends only when the thread does. ``discard``
    receives the result if the loop was closed meanwhile.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    # An exception that is not awaited is not worth a message.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())

    def deliver(result: T | None, error: Exception | None) -> None:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = function()
        except Exception as error:  # it is raised where the future is awaited
            failure = error
        try:
            loop.call_soon_threadsafe(deliver, result, failure)
        except RuntimeError:  # the loop is closed
            if failure is None:
                discard(result)  # type: ignore[arg-type]

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:
        raise OSError(f"cannot start a thread: {error}") from None
    return future


def wake(future: "asyncio.Future[None]") -> None:
    """Complete a future that may be complete already."""
    if not future.done():
        future.set_result(None)
