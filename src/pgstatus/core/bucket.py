"""A token bucket: how many operations per second are allowed. Pure except for its own counter; the
time is an argument.
"""

from math import inf
from threading import Lock


class Bucket:
    """Allows ``rate`` operations per second, and ``burst`` at once. Safe to use from any thread."""

    def __init__(self, rate: float, burst: float | None = None) -> None:
        self._rate = rate
        # At least one, so that a rate below one per second allows anything at all.
        self._burst = max(1.0, rate if burst is None else burst) if rate else 0.0
        self._tokens = self._burst
        self._filled_at: float | None = None
        self._lock = Lock()

    def take(self, now: float) -> bool:
        """One operation is allowed at ``now``, and counted."""
        with self._lock:
            self._fill(now)
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def wait(self, now: float) -> float:
        """Seconds until the next operation is allowed; 0: now."""
        with self._lock:
            self._fill(now)
            missing = 1 - self._tokens
            if missing <= 0:
                return 0.0
            return missing / self._rate if self._rate else inf

    def _fill(self, now: float) -> None:
        before = now if self._filled_at is None else self._filled_at
        self._filled_at = max(now, before)
        gained = (self._filled_at - before) * self._rate
        self._tokens = min(self._burst, self._tokens + gained)
