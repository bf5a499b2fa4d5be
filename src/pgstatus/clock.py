"""The one clock that ages evidence. On Linux it also counts the time that the machine slept.

Source: ``clock_gettime(2)``: ``CLOCK_MONOTONIC`` stands still during a suspend, ``CLOCK_BOOTTIME``
does not.
"""

import time
from datetime import UTC, datetime

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds since some fixed moment; never goes back."""
    return time.clock_gettime(_CLOCK)


def wall() -> datetime:
    """The time of day, UTC, for people to read."""
    return datetime.now(UTC)
