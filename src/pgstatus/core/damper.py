"""Limits how many events are logged. Pure: the time is an argument.

A host that fails and recovers continuously, or a hundred hosts that fail at once, must not fill the
log: within a minute the first events are logged, the others are counted and summarised.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import inf

from pgstatus.core.changes import Change, Event

_PERIOD = 60.0
# Lines about the same kind of change of the same host, and lines altogether, in one period.
_SAME = 3
_LINES = 30
# More summaries than this are summarised themselves.
_SUMMARIES = 5
_ALWAYS = frozenset({Change.MASTER, Change.READY, Change.SPLIT_BRAIN})
"""Not counted against the limit for all lines."""


class Damper:
    """Counts events in periods of a minute; a period begins with the first event after the last."""

    def __init__(self) -> None:
        self.next = inf
        """The end of the period; infinite: none has begun."""
        self._logged: Counter[tuple[Change, str | None]] = Counter()
        self._held: Counter[tuple[Change, str | None]] = Counter()
        self._last: dict[tuple[Change, str | None], Event] = {}

    def admits(self, event: Event, now: float) -> bool:
        """Log the event; False: it was counted instead."""
        if self.next == inf:
            self.next = now + _PERIOD
        key = event.change, None if event.change in _ALWAYS else event.host
        if self._logged[key] < _SAME and (event.change in _ALWAYS or self._logged.total() < _LINES):
            self._logged[key] += 1
            return True
        self._held[key] += 1
        self._last[key] = event
        return False

    def summaries(self, now: float) -> Iterator[Event]:
        """The events that summarise a period, at its end."""
        if now < self.next:
            return
        held, last = self._held, self._last
        self.next, self._logged, self._held, self._last = inf, Counter(), Counter(), {}
        if len(held) <= _SUMMARIES:
            for key, count in held.items():
                yield replace(last[key], text=f"{last[key].text} ({_further(count)})")
        else:
            hosts = len({host for _, host in held if host is not None})
            worst = max(last.values(), key=lambda event: event.level)
            text = f"{_further(held.total())} of {hosts} hosts were not logged"
            yield replace(worst, host=None, text=text)


def _further(count: int) -> str:
    return f"{count} further change{'s' if count > 1 else ''} within {_PERIOD:g} s"
