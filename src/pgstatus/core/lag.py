"""How far a replica is behind its master: upper bounds from samples of the master's write position.

The smaller of two bounds is the time lag:

* A replica that has replayed past a sample is no further behind than the sample is old. This uses
  no clock but our own, whether the master is idle (the replica always passes the newest sample),
  does not respond (no new samples: the bound grows), or the replica is cut off, frozen or paused
  (it never passes a new sample).
* Everything committed before its last replayed transaction is on the replica, too, so the age of
  that transaction is a bound. Its time stamp is from the clock of a master; it is converted with
  that clock's readings at the last sample that the replica has passed and at the first that it has
  not (the earlier result counts: the clock may have been set in between), and it is valid only
  between these two. A clock that is wrong by minutes falls outside and is ignored.

If the master is known to be down, the time stops at that moment: nothing was committed since.

Samples belong to one history: the server that writes it, and its timeline. After a promotion the
samples of the former timeline remain valid up to the last moment at which the new master was
certainly still in recovery.

Sources: PostgreSQL manual, "Recovery Information Functions" (``pg_last_wal_replay_lsn``,
``pg_last_xact_replay_timestamp``) and "Backup Control Functions" (``pg_current_wal_lsn``).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

from pgstatus.core.snapshot import Observation

# At an interval of 5 s this is three quarters of an hour in full detail; thinning then keeps hours
# more at half, a quarter and so on of it. A few tens of kilobytes.
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
    """Samples of the write position of one history, oldest first."""

    samples: tuple[Sample, ...] = ()
    writer: str | None = None
    """The server that writes it."""
    timeline: int | None = None
    received: int | None = None
    """The highest position that a replica of this history has reported."""

    @property
    def newest(self) -> Sample | None:
        return self.samples[-1] if self.samples else None

    @property
    def end(self) -> int | None:
        """The highest position known to any host of this history."""
        written = None if self.newest is None else self.newest.lsn
        return max((p for p in (self.received, written) if p is not None), default=None)

    def add(self, master: Observation) -> "WalHistory":
        """The history with the result of a check of its master; unchanged if it is not newer."""
        if master.lsn is None or (self.samples and master.started <= self.samples[-1].taken):
            return self
        # The LSN was read after `started`: at that moment the WAL ended there or before.
        sample = Sample(master.started, master.lsn, master.timeline, master.host_time)
        kept = self.samples
        if len(kept) >= _MAX_SAMPLES:
            half = len(kept) // 2
            # Without a sample a bound can only be larger, never wrong.
            kept = kept[:half:2] + kept[half:]
        return replace(self, samples=(*kept, sample))

    def goes_back(self, master: Observation) -> bool:
        """The master's position is lower than before: it was restored from an older copy."""
        newest = self.newest
        return (
            newest is not None
            and newest.timeline == master.timeline
            and master.lsn is not None
            and master.lsn < newest.lsn
        )

    def with_received(self, replica: Observation) -> "WalHistory":
        """The history with the positions that a replica of this history reports."""
        positions = (self.received, replica.lsn, replica.received_lsn, replica.upstream_lsn)
        received = max((p for p in positions if p is not None), default=None)
        return self if received == self.received else replace(self, received=received)

    def continued_by(
        self, writer: str, timeline: int | None, in_recovery_at: float | None
    ) -> "WalHistory":
        """The history that this master writes, last known to be in recovery at that moment."""
        if writer == self.writer and (timeline is None or timeline == self.timeline):
            return self
        if writer == self.writer and self.timeline is None:
            return replace(self, timeline=timeline)
        samples: tuple[Sample, ...] = ()
        if timeline is not None and self.timeline is not None and timeline > self.timeline:
            until = -inf if in_recovery_at is None else in_recovery_at
            samples = tuple(sample for sample in self.samples if sample.taken <= until)
        return WalHistory(samples, writer, timeline)

    def _comparable(self, timeline: int | None) -> Iterator[Sample]:
        for sample in reversed(self.samples):
            if timeline is None or sample.timeline is None or sample.timeline <= timeline:
                yield sample


def time_lag(history: WalHistory, replica: Observation, until: float = inf) -> float | None:
    """Upper bound of the lag at the end of the check, seconds; None: unknown.

    ``until``: the master is known to have committed nothing since.
    """
    if replica.lsn is None:
        return None
    end = min(replica.finished, until)
    not_passed: Sample | None = None
    for sample in history._comparable(replica.timeline):
        if replica.lsn < sample.lsn:
            not_passed = sample
            continue
        passed_at = sample.taken
        if replica.replayed_at is not None and (not_passed is not None or until < inf):
            # After the master went down no sample can follow: its end takes the place of one.
            bounds = [sample] if not_passed is None else [sample, not_passed]
            committed = min(_by_our_clock(replica.replayed_at, bound) for bound in bounds)
            limit = end if not_passed is None else min(not_passed.taken, end)
            if sample.taken < committed <= limit:
                passed_at = committed
        return max(0.0, end - passed_at)
    return None


def _by_our_clock(stamp: float, sample: Sample) -> float:
    return sample.taken + (stamp - sample.host_time)


def byte_lag(end: int | None, replica: Observation) -> int | None:
    """Bytes of WAL up to ``end`` that the replica has not replayed."""
    if end is None or replica.lsn is None:
        return None
    return max(0, end - replica.lsn)


def over(lag: int | None, limit: int, unit: str) -> str | None:
    """Why a lag is not within the limit; None: it is. An unknown lag exceeds every limit."""
    if lag is None:
        return "time lag unknown" if unit == "ms" else "byte lag unknown"
    return f"{lag} {unit} behind (limit {limit} {unit})" if lag > limit else None


def is_conclusive(history: WalHistory, replica: Observation, tolerance: float) -> bool:
    """A second check would not result in a lower lag.

    Either the bound is within ``tolerance`` seconds, or the replica has replayed all of a sample
    that is as recent as its own check, and the remainder is the duration of the check. What a relay
    does not know of the times of a check is no lag that a watcher would check again.
    """
    tolerance += replica.uncertainty
    newest = history.newest
    lag = time_lag(history, replica)
    if lag is None or newest is None or replica.lsn is None:
        return False
    caught_up = replica.lsn >= newest.lsn and newest.taken >= replica.started - tolerance
    return lag <= tolerance or caught_up


def is_ahead(history: WalHistory, replica: Observation) -> bool:
    """The replica has replayed WAL that the master, checked later, had not written."""
    newest = history.newest
    return (
        newest is not None
        and replica.lsn is not None
        and newest.taken >= replica.finished
        and replica.lsn > newest.lsn
        and (replica.timeline is None or newest.timeline in (None, replica.timeline))
    )
