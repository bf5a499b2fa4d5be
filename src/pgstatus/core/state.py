"""What the monitor remembers of the hosts between their checks. Pure: values, and what follows
from them; `tracker` says how they change.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, auto
from math import inf

from pgstatus.core.election import Candidate, Election, SplitBrain, elect
from pgstatus.core.lag import WalHistory
from pgstatus.core.snapshot import Failure, Host, Observation


class Look(Enum):
    """On what occasion a host was checked."""

    ROUND = auto()
    """With all the others."""
    RECHECK = auto()
    """Once more, because it looked late: this one is final."""
    POSITION = auto()
    """For its position alone."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits that decide; times in seconds."""

    sleep: float = 5.0
    max_fails: int = 3
    sync_max_lag_ms: int = 1000
    sync_max_lag_bytes: int = 1_000_000
    split_brain: SplitBrain = SplitBrain.NEWEST_TIMELINE
    max_staleness: float = 30.0
    """0 is: however old."""


@dataclass(frozen=True, slots=True)
class Lag:
    """A lag as it is told; None is unknown."""

    seconds: float | None = None
    size: int | None = None
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of one host."""

    seen: Observation | None = None
    """The last good check; None: never, or dead, or too long ago."""
    fails: int = 0
    counted: float = -inf
    """When the last counted failure began."""
    failure: Failure | None = None
    """The last check, if it failed."""
    checked: float | None = None
    checked_at: datetime | None = None
    """Of the check that ``lag`` is from; the time of day."""
    asked_at: datetime | None = None
    """Of the last check. It becomes ``checked_at`` when what it says of the lag is settled."""
    lag: Lag = field(default_factory=Lag)
    unsettled: bool = False
    """It looked late in its last check and should be looked at once more."""
    system_identifier: int | None = None
    """Remembered also while the host is dead."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What has to outlive a restart, lest a master that was replaced be taken for the right one."""

    system_identifier: int | None
    newest_timeline: int
    witnesses: frozenset[str]
    """The hosts that have shown it."""
    master: str | None = None
    """Who was named, ``name:port``."""


@dataclass(frozen=True, slots=True)
class State:
    """All that the monitor remembers. Begin with `State.of` and fold results in."""

    hosts: tuple[Host, ...]
    records: tuple[Record, ...]
    history: WalHistory = field(default_factory=WalHistory)
    master: int | None = None
    incumbent: int | None = None
    """The master of the last moment at which everybody had been asked."""
    newest_timeline: int | None = None
    witnesses: frozenset[str] = frozenset()
    """The hosts that have shown the newest timeline."""
    system_identifier: int | None = None
    ready: bool = False
    """Every host was asked, since the start or since all was forgotten."""
    recalled: bool = False
    """The cluster's identifier is from before that: it stands until everybody was asked."""

    @classmethod
    def of(cls, hosts: Sequence[Host]) -> "State":
        return cls(tuple(hosts), tuple(Record() for _ in hosts))

    @property
    def memory(self) -> Memory | None:
        """What to keep for the next start; None as long as it is not certain."""
        if not self.ready or self.newest_timeline is None:
            return None
        master = None if self.incumbent is None else str(self.hosts[self.incumbent])
        return Memory(self.system_identifier, self.newest_timeline, self.witnesses, master)

    def recall(self, memory: Memory) -> "State":
        """This first state with what was known before the restart; itself if of other hosts."""
        names = [str(host) for host in self.hosts]
        if not memory.witnesses & set(names):
            return self
        return replace(
            self,
            system_identifier=memory.system_identifier,
            newest_timeline=memory.newest_timeline,
            witnesses=memory.witnesses,
            incumbent=names.index(memory.master) if memory.master in names else None,
            recalled=True,
        )

    def among(self, hosts: Sequence[Host]) -> "State":
        """What is still worth remembering when these are the hosts from now on.

        All of them have to be asked anew: somebody may know more by now than this state.
        """
        old = {host.address: index for index, host in enumerate(self.hosts)}
        kept = [old.get(host.address, -1) for host in hosts]
        if set(kept) == {-1}:
            return State.of(hosts)
        records = tuple(
            Record() if index < 0 else replace(self.records[index], checked=None) for index in kept
        )
        return replace(
            self,
            hosts=tuple(hosts),
            records=records,
            master=kept.index(self.master) if self.master in kept else None,
            incumbent=kept.index(self.incumbent) if self.incumbent in kept else None,
            ready=False,
            recalled=self.recalled or self.ready,
        )

    @property
    def has_healthy_master(self) -> bool:
        return self.master is not None and self.records[self.master].failure is None

    @property
    def in_transition(self) -> bool:
        """Not all is known: hosts were not asked yet, the master does not answer, or a replica is
        not with it yet.
        """
        if not self.ready or self.master is None or not self.has_healthy_master:
            return True
        master = self.records[self.master].seen
        return master is not None and any(
            record.failure is None
            and record.seen is not None
            and record.seen.in_recovery
            and (record.seen.timeline or inf) < (master.timeline or 0)
            for record in self.records
        )

    @property
    def unsettled(self) -> tuple[int, ...]:
        """The hosts to look at once more."""
        return tuple(i for i, record in enumerate(self.records) if record.unsettled)


def candidates(state: State) -> list[Candidate]:
    """The live hosts of this cluster that say they are its master, in list order."""
    return [
        Candidate(index, str(state.hosts[index]), record.seen.timeline, record.failure is None)
        for index, record in enumerate(state.records)
        if record.seen is not None and not record.seen.in_recovery and not is_foreign(state, record)
    ]


def is_foreign(state: State, record: Record) -> bool:
    """It belongs to another cluster than most of the hosts."""
    known = state.system_identifier
    return known is not None and record.system_identifier not in (None, known)


def hold_election(state: State, rules: Rules) -> Election:
    """Who is the master of this state."""
    return elect(
        candidates(state),
        newest_timeline=state.newest_timeline,
        current=state.incumbent,
        policy=rules.split_brain,
    )
