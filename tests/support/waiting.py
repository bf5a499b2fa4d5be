"""Wait for a predicate with a deadline, never for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds. Only a failed test takes this long: a busy machine is no failure."""


def wait_until(
    what: str | Callable[[], str], predicate: Callable[[], T], timeout: float = PATIENCE
) -> T:
    """Return the first true value of ``predicate``; AssertionError with ``what`` after the timeout.

    ``what`` is a function if its text is known only at the end, such as a log.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            text = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {timeout:g} s: {text} (last: {value!r})")
        time.sleep(0.02)
