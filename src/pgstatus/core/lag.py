"""How far a replica is behind, in milliseconds: an upper bound that can be defended.

We keep a short history of where the master's log ended and when. Two bounds follow from it, and
the smaller is told:

* A replica that has replayed past a sample is no further behind than that sample is old. This
  needs no clock but ours: the primary may be idle (always the newest sample), out of sight (no
  new samples: the bound grows), or the replica cut, frozen or paused (never passes a new one).
* Everything committed before its last replayed transaction is on the replica too, so the age of
  that transaction is a bound. Its time stamp is from some master's clock; it is converted by what
  that clock showed at the last sample that the replica passed and at the first that it did not
  (of the two the earlier counts: the clock may have been set in between), and believed only where
  it falls between these. A clock that is wrong by minutes falls outside and is ignored; a cut link
  leaves the bracket behind, so the bound still grows.

Sources: PostgreSQL manual, "Recovery Information Functions" (``pg_last_wal_replay_lsn``,
``pg_last_xact_replay_timestamp``) and "Backup Control Functions" (``pg_current_wal_lsn``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pgstatus.core.snapshot import Observation

# At the usual pause of 5 s this is three quarters of an hour in full detail; thinning then keeps
# hours more at half, a quarter … of it. A few tens of kilobytes.
_MAX_SAMPLES = 512


@dataclass(frozen=True, slots=True)
class Sample:
    """At ``taken`` (our clock, seconds) the master had written no more than ``lsn``."""

    taken: float
    lsn: int
    timeline: int | None
    host_time: float
    """The master's own clock at that moment, Unix seconds."""


@dataclass(frozen=True, slots=True)
class WalHistory:
    """Samples of the master's write position, oldest first."""

    samples: tuple[Sample, ...] = ()

    @property
    def newest(self) -> Sample | None:
        return self.samples[-1] if self.samples else None

    def add(self, master: Observation) -> "WalHistory":
        """The history with what this check of the master saw; itself where that is nothing new."""
        if master.lsn is None or (self.samples and master.started <= self.samples[-1].taken):
            return self
        # The LSN was read after the question was sent: at `started` the log ended there or before.
        sample = Sample(master.started, master.lsn, master.timeline, master.host_time)
        kept = self.samples
        if len(kept) >= _MAX_SAMPLES:
            half = len(kept) // 2
            # A dropped sample can only make a bound larger, never wrong.
            kept = kept[:half:2] + kept[half:]
        return WalHistory((*kept, sample))

    def _comparable(self, timeline: int | None) -> Iterator[Sample]:
        for sample in reversed(self.samples):
            if timeline is None or sample.timeline is None or sample.timeline <= timeline:
                yield sample


def time_lag(history: WalHistory, replica: Observation) -> float | None:
    """Seconds that the replica is behind at most, as of ``replica.finished``; None is unknown."""
    if replica.lsn is None:
        return None
    not_passed: Sample | None = None
    for sample in history._comparable(replica.timeline):
        if replica.lsn < sample.lsn:
            not_passed = sample
            continue
        passed_at = sample.taken
        if replica.replayed_at is not None and not_passed is not None:
            committed = min(_by_our_clock(replica.replayed_at, s) for s in (sample, not_passed))
            if sample.taken < committed <= min(not_passed.taken, replica.finished):
                passed_at = committed
        return max(0.0, replica.finished - passed_at)
    return None


def _by_our_clock(stamp: float, sample: Sample) -> float:
    return sample.taken + (stamp - sample.host_time)


def byte_lag(history: WalHistory, replica: Observation) -> int | None:
    """Bytes of log that the master had written and the replica not yet replayed."""
    newest = history.newest
    if newest is None or replica.lsn is None:
        return None
    return max(0, newest.lsn - replica.lsn)


def over(lag: int | None, limit: int, unit: str) -> str | None:
    """Why a lag is not within the limit; None: it is. An unknown lag exceeds every limit."""
    if lag is None:
        return "time lag unknown" if unit == "ms" else "byte lag unknown"
    return f"{lag} {unit} behind (limit {limit} {unit})" if lag > limit else None


def is_conclusive(history: WalHistory, replica: Observation, tolerance: float) -> bool:
    """Looking again would not show a better figure.

    Either the bound is within ``tolerance`` seconds, or the replica has replayed all of a sample
    as recent as its own check, and what is left is the time that the check itself took.
    """
    newest = history.newest
    lag = time_lag(history, replica)
    if lag is None or newest is None or replica.lsn is None:
        return False
    caught_up = replica.lsn >= newest.lsn and newest.taken >= replica.started - tolerance
    return lag <= tolerance or caught_up


def is_ahead(history: WalHistory, replica: Observation) -> bool:
    """The replica replayed log that the master, asked later, had not written: another history."""
    newest = history.newest
    return (
        newest is not None
        and replica.lsn is not None
        and newest.taken >= replica.finished
        and replica.lsn > newest.lsn
    )
