"""How often something may be repeated: pauses after failures, and a limit for a series of events.

Pure: the current time is an argument.
"""

from math import inf


class Backoff:
    """Pauses that double from one failure to the next."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self.reset()

    def reset(self) -> None:
        """Begin with the first pause again."""
        self._pause = 0.0
        self._until = -inf

    def failed(self, now: float) -> float:
        """Note a failure. Returns the seconds until the next attempt."""
        self._pause = min(2 * self._pause or self._first, self._longest)
        self._until = now + self._pause
        return self._pause

    def wait(self, now: float) -> float:
        """Seconds until the next attempt; 0: it may begin."""
        return max(0.0, self._until - now)


class TokenBucket:
    """Permits ``burst`` events at once, and one more every ``period`` seconds."""

    def __init__(self, burst: int, period: float) -> None:
        self._burst = burst
        self._period = period
        self._full_at = -inf
        """When all tokens are available again, if none is taken until then."""

    def wait(self, now: float) -> float:
        """Seconds until the next event is permitted; 0: now."""
        return max(0.0, self._full_at - (self._burst - 1) * self._period - now)

    def take(self, now: float) -> None:
        """Note an event."""
        self._full_at = max(self._full_at, now) + self._period
