"""When the ``on_change`` command is due.

Pure: the current time is an argument. Rules:

* A run is due when the situation differs from the one that the last successful run received.
* A failed run is repeated with growing pauses as long as its situation is the newest; another
  situation does not wait for the end of the pause.
* A series of changes causes few runs per minute. Changes of the master have a limit of their own,
  so that a replica that repeatedly falls behind does not delay the run for a failover.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from pgstatus.core.situation import Situation
from pgstatus.outputs.backoff import Backoff, TokenBucket

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_BURST = 5
_PERIOD = 20.0
# The pauses above never reach this limit; it is for a cluster that changes while the command fails.
_RETRY_BURST = 6
_RETRY_PERIOD = 30.0
_URGENT = frozenset({"master", "split_brain"})


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the command."""

    situation: Situation
    changes: Sequence[str]
    """The facts that differ from those of the last successful run; all if that is unknown."""
    merged: int
    """The number of changes since the previous run."""


class RunSchedule:
    """The schedule of one command; another command has another one."""

    def __init__(self) -> None:
        self._wanted: Situation | None = None
        self._reported: Situation | None = None
        """What the last run received, if it succeeded."""
        self._attempted: Situation | None = None
        """What the last run received."""
        self._failed: Situation | None = None
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._urgent = TokenBucket(_BURST, _PERIOD)
        self._ordinary = TokenBucket(_BURST, _PERIOD)
        self._retries = TokenBucket(_RETRY_BURST, _RETRY_PERIOD)
        self._merged = 0

    @property
    def is_pending(self) -> bool:
        """The newest situation has not been reported yet."""
        return self._wanted != self._reported

    @property
    def is_limited(self) -> bool:
        """The next run waits because of the number of runs, not because of a failure."""
        return self.is_pending and self._wanted != self._failed

    def want(self, situation: Situation) -> bool:
        """Note the newest situation; False if it is not new."""
        if situation == self._wanted:
            return False
        self._wanted = situation
        self._merged += 1
        return True

    def wait(self, now: float) -> float:
        """Seconds until the next run is due; 0: now; infinite: no run is due."""
        if not self.is_pending:
            return inf
        if self._wanted == self._failed:
            return max(self._backoff.wait(now), self._retries.wait(now))
        return self._bucket.wait(now)

    def begin(self, now: float) -> Run:
        """The run that is due; `end` must follow."""
        assert self._wanted is not None  # noqa: S101  # it is pending
        (self._retries if self._wanted == self._failed else self._bucket).take(now)
        run = Run(self._wanted, self._wanted.differences(self._reported), self._merged)
        self._attempted, self._reported, self._merged = self._wanted, None, 0
        return run

    def end(self, run: Run, now: float, *, succeeded: bool) -> float | None:
        """Note the result of a run. Returns the seconds until it is repeated, None if it is not."""
        if succeeded:
            self._reported, self._failed = run.situation, None
            return None
        if run.situation != self._failed:
            self._failed = run.situation
            self._backoff.reset()
        return self._backoff.failed(now)

    @property
    def _bucket(self) -> TokenBucket:
        if self._wanted is None or self._attempted is None:
            return self._urgent
        is_urgent = _URGENT.intersection(self._wanted.differences(self._attempted))
        return self._urgent if is_urgent else self._ordinary
