"""Which checks are running, and which of them are overdue. Pure: the time is an argument."""

from collections.abc import Callable
from math import inf

# If this process itself was paused, the responses that arrived meanwhile are read first.
_GRACE = 0.05


class RunningChecks:
    """At most one running query per host; ``overdue_after`` returns how long it may take."""

    def __init__(self, overdue_after: Callable[[int], float]) -> None:
        self._overdue_after = overdue_after
        self._started: dict[int, float] = {}
        self._overdue: dict[int, float] = {}
        """Since when a query was found to be overdue; infinite: it was returned by `overdue`."""

    def begin(self, index: int, now: float) -> None:
        self._started[index] = now

    def end(self, index: int) -> None:
        self._started.pop(index, None)
        self._overdue.pop(index, None)

    def is_overdue(self, index: int | None, now: float) -> bool:
        """The host has a running query that is overdue."""
        if index is None or index not in self._started:
            return False
        return now - self._started[index] >= self._overdue_after(index)

    def overdue(self, now: float) -> list[tuple[int, float]]:
        """The hosts whose query has become overdue, each once, and when it was started."""
        found = []
        for index, started in self._started.items():
            if self.is_overdue(index, now):
                since = self._overdue.setdefault(index, now)
                if now - since >= _GRACE:
                    self._overdue[index] = inf
                    found.append((index, started))
        return found

    @property
    def next(self) -> float:
        """When `overdue` may return a host next; infinite: never."""
        return min(
            (
                self._overdue[index] + _GRACE
                if index in self._overdue
                else started + self._overdue_after(index)
                for index, started in self._started.items()
            ),
            default=inf,
        )
