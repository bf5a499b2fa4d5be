"""The times of a watcher on the clock of this process. Pure: every time is an argument.

The clocks of two machines have different origins, so only differences count. A document that was
sent at ``sent`` (the watcher's clock) and received at ``at`` (ours) shows that the offset between
both clocks is ``at - sent`` at most; a document that was made after the moment ``after`` of our
clock, because it is the response to a request, shows that it is ``after - sent`` at least. The
offset lies between the lowest upper bound and the highest lower bound; the distance between them is
no more than the time that the fastest round trip took.

* What a watcher has observed counts with the greatest age that is possible. A document that waited
  in a buffer (this process or the watcher was frozen, a partition has healed) does not change the
  lowest upper bound, so it keeps its age.
* Clocks drift, and a virtual machine that was paused loses time. An upper bound is therefore used
  for a limited time, measured by both clocks: a buffer that is emptied is no passing of time. If
  the clock of a watcher jumps, its evidence appears older until then, never younger.
"""

from math import inf

WINDOW = 60.0
"""Seconds for which an upper bound is used at least; at most twice as long, unless the watcher was
silent."""
DRIFT = 200e-6
"""Seconds per second by which two clocks diverge at most."""

# Seconds between two documents that show that a watcher is sending now.
_PACE = 0.5


class WatcherClock:
    """The estimate of the offset of one epoch of one watcher."""

    def __init__(self) -> None:
        self._bound = self._former_bound = inf
        """The lowest ``at - sent`` since the present window began, and that of the former one."""
        self._began_at = self._began_sent = 0.0
        """When the present window began."""
        self._sent = inf
        """When the last document was sent."""
        self._low = -inf
        """The highest lower bound."""
        self._low_at = -inf
        self._width = inf
        """The distance of both bounds, when it was lowest."""
        self._pace: tuple[float, float] | None = None
        self.is_known = False
        """Ages are known: a lower bound is, or documents arrive as fast as they are sent."""

    def received(self, sent: float, at: float, after: float = -inf) -> None:
        """A document was sent at ``sent`` (its clock) and received at ``at`` (ours); it was made
        after the moment ``after`` of our clock.
        """
        before = self._high
        if sent < self._sent:
            # Documents are sent in their order: the watcher's clock was set back.
            self._began_at, self._began_sent = at, sent
        elif at - self._began_at >= WINDOW and sent - self._began_sent >= WINDOW:
            self._former_bound, self._bound = self._bound, inf
            self._began_at, self._began_sent = at, sent
        self._sent = sent
        self._bound = min(self._bound, at - sent)
        # A bound that rises by more than drift is no reason to take evidence for younger.
        self._width += max(0.0, self._high - before - 2 * WINDOW * DRIFT) if before < inf else 0.0
        if after > -inf:
            self._answered(sent, at, after)
        low = self._low - max(0.0, at - self._low_at) * DRIFT if self._low > -inf else -inf
        if self._high < low:
            # The watcher's clock went forward: the lower bound is from before.
            self._low, self._width = -inf, self._width if self._width < inf else 0.0
        else:
            self._width = min(self._width, self._high - low)
        self._note_pace(sent, at)

    def earliest(self, moment: float) -> float:
        """The earliest moment of our clock that ``moment`` of the watcher's may be.

        Without a lower bound, as if the fastest document had been received when it was sent.
        """
        return moment + self._high - (self._width if self._width < inf else 0.0)

    def latest(self, moment: float) -> float:
        """The latest one."""
        return moment + self._high

    @property
    def _high(self) -> float:
        return min(self._bound, self._former_bound)

    def _answered(self, sent: float, at: float, after: float) -> None:
        low = after - sent
        if low > self._high:
            # The watcher's clock lost time: the upper bounds are from before.
            self._bound, self._former_bound = at - sent, inf
            self._began_at, self._began_sent = at, sent
            self._width = inf
        self._low, self._low_at = low, at
        self.is_known = True

    def _note_pace(self, sent: float, at: float) -> None:
        if self.is_known:
            return
        if self._pace is None:
            self._pace = sent, at
            return
        passed_there, passed_here = sent - self._pace[0], at - self._pace[1]
        if passed_there >= _PACE:
            self.is_known = passed_here >= passed_there / 2
            self._pace = sent, at
