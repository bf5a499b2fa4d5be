"""When a pg-status could know the state of the cluster; outside of these times it is not judged.

A pg-status that checks the hosts itself can always know it. A relay depends on its watchers.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from tests.chaos.health import Interval


@dataclass(frozen=True)
class Knowledge:
    """``intervals`` are disjoint and sorted; ``starts``: when its process was started."""

    intervals: Sequence[Interval] = (Interval(-inf, inf),)
    starts: Sequence[float] = ()
    outweighed: float = 0.0
    """Seconds for which the success of one watcher may outweigh a later failure of another: so much
    later a relay may find out that a host is down, and that another one takes its place.
    """

    def since(self, began: float, seconds: float) -> float:
        """The end of the first ``seconds`` after ``began`` in which it could know; or infinite."""
        for interval in self.intervals:
            at = max(began, interval.began) + seconds
            if at <= interval.ended:
                return at
        return inf

    def covers(self, began: float, ended: float) -> bool:
        """It could know the state during all of this time."""
        return any(known.began <= began and ended <= known.ended for known in self.intervals)

    def within(self, began: float, ended: float) -> Iterator[Interval]:
        """The parts of this time in which it could know the state."""
        for known in self.intervals:
            if max(began, known.began) < min(ended, known.ended):
                yield Interval(max(began, known.began), min(ended, known.ended))

    def lives(self, began: float, ended: float) -> Iterator[Interval]:
        """The time from ``began`` to ``ended``, divided where the process was started again: a new
        process need not know what the previous one has reported.
        """
        limits = [began, *(start for start in self.starts if began < start < ended), ended]
        for first, last in pairwise(limits):
            yield Interval(first, last)


@dataclass
class Trouble:
    """From ``began`` to ``ended`` the relay and the watcher are of no use to each other, and for
    ``settle`` seconds after that at most; None: any relay, any watcher.
    """

    began: float
    relay: str | None
    watcher: str | None
    settle: float
    silences: bool = True
    """No document of the watcher arrives at the relay."""
    ended: float = inf

    @property
    def whole(self) -> Interval:
        """Until both are useful again. Retransmissions and attempts to connect are made at
        intervals that grow with the time for which they have failed.
        """
        return Interval(
            self.began, self.ended + min(self.settle, 1 + 1.5 * (self.ended - self.began))
        )

    def affects(self, relay: str, watcher: str) -> bool:
        return self.relay in {None, relay} and self.watcher in {None, watcher}


@dataclass
class Chronicle:
    """Everything that was done to watchers, relays and the network between them."""

    watchers: Sequence[str]
    began: float
    troubles: list[Trouble] = field(default_factory=list)

    @contextmanager
    def trouble(
        self, relay: str | None, watcher: str | None, settle: float, *, silences: bool = True
    ) -> Iterator[None]:
        """They are of no use to each other within this block."""
        trouble = Trouble(time.time(), relay, watcher, settle, silences)
        self.troubles.append(trouble)
        try:
            yield
        finally:
            trouble.ended = time.time()

    def knowledge(
        self,
        relay: str,
        until: float,
        starts: Sequence[float],
        outweighed: float,
        direct_after: float | None = None,
    ) -> Knowledge:
        """``direct_after``: seconds without any watcher after which the relay checks the hosts."""
        silent = [Interval(self.began, until)]
        known: list[Interval] = []
        for watcher in self.watchers:
            affecting = [t for t in self.troubles if t.affects(relay, watcher)]
            known += without(Interval(self.began, until), [t.whole for t in affecting])
            own = union(Interval(t.began, t.ended) for t in affecting if t.silences)
            silent = [part for a in silent for part in Knowledge(own).within(a.began, a.ended)]
        if direct_after is not None:
            relays_own = [t.whole for t in self.troubles if t.relay == relay and t.watcher is None]
            for interval in silent:
                if interval.began + direct_after < interval.ended:
                    began = interval.began + direct_after
                    known += without(Interval(began, interval.ended), relays_own)
        return Knowledge(union(known), starts, outweighed)


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Disjoint and sorted."""
    found: list[Interval] = []
    for interval in sorted(intervals, key=lambda one: one.began):
        if found and interval.began <= found[-1].ended:
            found[-1] = Interval(found[-1].began, max(found[-1].ended, interval.ended))
        else:
            found.append(interval)
    return found


def without(whole: Interval, parts: Iterable[Interval]) -> list[Interval]:
    """What is left of ``whole``."""
    left, at = [], whole.began
    for part in union(parts):
        if part.began > at:
            left.append(Interval(at, min(part.began, whole.ended)))
        at = max(at, part.ended)
    if at < whole.ended:
        left.append(Interval(at, whole.ended))
    return [interval for interval in left if interval.began < interval.ended]
