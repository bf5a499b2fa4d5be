"""Who is named for a question. Pure: a snapshot and a question in, the equally good hosts out.

The order of preference, for every question about replicas:

1. healthy replicas that satisfy the question's limits,
2. the healthy master,
3. the same two again among the possibly dead.

Among replicas of one step those in the asker's data centre (``dc``) come first, else those in its
region (``geo``), else all. `Turns` then names the equals one after the other.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from threading import Lock

from pgstatus.core.lag import over
from pgstatus.core.snapshot import HostStatus, Role, Snapshot
from pgstatus.lsn import format_lsn

MAX_WAIT_MS = 10_000
"""How long a ``min_lsn`` question may wait: it holds a thread."""

# Questions with limits of their own (`min_lsn` above all) are without number; a turn that is
# forgotten begins anew, which nobody can notice.
_MAX_QUESTIONS = 1024


class Kind(StrEnum):
    """What is asked for; the value is the endpoint's path without the slash."""

    MASTER = "master"
    REPLICA = "replica"
    SYNC_BY_TIME = "sync_by_time"
    SYNC_BY_BYTES = "sync_by_bytes"
    SYNC_BY_TIME_OR_BYTES = "sync_by_time_or_bytes"
    SYNC_BY_TIME_AND_BYTES = "sync_by_time_and_bytes"
    MOST_SYNC_BY_BYTES = "most_sync_by_bytes"


@dataclass(frozen=True, slots=True)
class Question:
    """One question; a limit that is None does not matter. `Thresholds.question` makes them."""

    kind: Kind
    lag_ms: int | None = None
    lag_bytes: int | None = None
    min_lsn: int | None = None
    timeline: int | None = None
    """The one that ``min_lsn`` is on; None: whichever."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits of a ``/sync_by_*`` question that names none."""

    lag_ms: int = 1000
    lag_bytes: int = 1_000_000

    def question(
        self,
        kind: Kind,
        lag_ms: int | None = None,
        lag_bytes: int | None = None,
        min_lsn: int | None = None,
        timeline: int | None = None,
    ) -> Question:
        """The question with the limits that its kind looks at, and no others."""
        if kind is Kind.MASTER:
            return Question(kind)
        if kind is Kind.REPLICA:
            return Question(kind, lag_ms, lag_bytes, min_lsn, timeline)
        return Question(
            kind,
            (self.lag_ms if lag_ms is None else lag_ms) if kind in _BY_TIME else None,
            (self.lag_bytes if lag_bytes is None else lag_bytes) if kind in _BY_BYTES else None,
            min_lsn,
            timeline,
        )


_BY_TIME = {Kind.SYNC_BY_TIME, Kind.SYNC_BY_TIME_OR_BYTES, Kind.SYNC_BY_TIME_AND_BYTES}
_BY_BYTES = set(Kind) - {Kind.MASTER, Kind.REPLICA, Kind.SYNC_BY_TIME}


@dataclass(frozen=True, slots=True)
class Place:
    """Where this instance stands; None: it does not matter."""

    dc: str | None = None
    geo: str | None = None


def choose(snapshot: Snapshot, question: Question, place: Place) -> tuple[HostStatus, ...]:
    """The hosts that answer the question equally well, in list order; empty where none does."""
    master = [status for status in snapshot.hosts if status.master]
    if question.kind is Kind.MASTER:
        return tuple(master)
    if master and is_outdated(master[0], question):
        master = []
    fitting = [s for s in snapshot.hosts if objection(s, question) is None]
    for possible_dead in (False, True):
        replicas = [s for s in fitting if s.possible_dead is possible_dead]
        if replicas:
            return _nearest(replicas, question, place)
        if master and master[0].possible_dead is possible_dead:
            return tuple(master)
    return ()


def is_reached(snapshot: Snapshot, question: Question) -> bool:
    """A healthy replica answers the question: nobody needs to wait for one."""
    return any(
        not status.possible_dead and objection(status, question) is None
        for status in snapshot.hosts
    )


def may_be_reached(snapshot: Snapshot) -> bool:
    """There is a healthy replica to wait for."""
    return any(s.role is Role.REPLICA and not s.possible_dead for s in snapshot.hosts)


def refusal(snapshot: Snapshot, status: HostStatus, question: Question) -> str | None:
    """Why a load balancer should not use this one host for the question; None: it should.

    The same preference as in `choose`, less the master: the possibly dead only where no healthy
    replica fits.
    """
    reason = objection(status, question)
    if reason is None and status.possible_dead and is_reached(snapshot, question):
        return not_first(status)
    return reason


def not_first(status: HostStatus) -> str:
    """Why a possibly dead host that fits is not named, though there is a healthy one."""
    return f"is {possibly_dead(status)}, and healthy hosts come first"


def possibly_dead(status: HostStatus) -> str:
    """That it is, and why."""
    return f"possibly dead ({status.error})"


def why_not_master(status: HostStatus) -> str:
    """Why ``/master`` does not name this host."""
    # The reason of a live replica is about its freshness.
    return (not status.is_live_replica and status.reason) or f"is a {status.role}"


def nobody(snapshot: Snapshot, question: Question) -> str | None:
    """Why no host at all answers the question."""
    master = snapshot.master
    if master is not None and is_outdated(master, question):
        return f"{master.host} {outdated(master, question)}"
    return snapshot.no_master


def outdated(master: HostStatus, question: Question) -> str:
    """`is_outdated` in words."""
    return f"is the master, but on timeline {master.timeline}, not {question.timeline}"


def is_outdated(master: HostStatus, question: Question) -> bool:
    """The asker has written on a newer timeline: this master was replaced, we are the last to know.

    To name it would be to lose sight of what they wrote.
    """
    return (master.timeline or 0) < (question.timeline or 0)


def objection(status: HostStatus, question: Question) -> str | None:
    """Why this host is no answer to a question about replicas, in words; None: it is one."""
    if not status.is_live_replica:
        return status.reason or "is not a live replica"
    by_time = _over(status, status.lag_ms, question.lag_ms, "ms")
    by_bytes = _over(status, status.lag_bytes, question.lag_bytes, "bytes")
    if question.kind is Kind.SYNC_BY_TIME_OR_BYTES:
        late = f"{by_time}; {by_bytes}" if by_time and by_bytes else None
    else:
        late = by_time or by_bytes
    return late or _behind(status, question)


def _over(status: HostStatus, lag: int | None, limit: int | None, unit: str) -> str | None:
    if limit is None:
        return None
    if not status.same_history:
        return status.reason or "follows another history"
    return over(lag, limit, unit)


def _behind(status: HostStatus, question: Question) -> str | None:
    if question.min_lsn is None:
        return None
    if not status.same_history:
        return status.reason or "follows another history"
    if question.timeline is not None and question.timeline != status.history:
        return f"follows timeline {status.history}, not {question.timeline}"
    if status.lsn is None or status.lsn < question.min_lsn:
        reached = "nothing" if status.lsn is None else format_lsn(status.lsn)
        return f"has replayed {reached}, not {format_lsn(question.min_lsn)}"
    return None


def _nearest(
    replicas: Sequence[HostStatus], question: Question, place: Place
) -> tuple[HostStatus, ...]:
    if question.kind is Kind.MOST_SYNC_BY_BYTES:
        return (min(replicas, key=lambda s: s.lag_bytes or 0),)
    for mine, theirs in (
        (place.dc, [s for s in replicas if s.host.dc == place.dc]),
        (place.geo, [s for s in replicas if s.host.geo == place.geo]),
    ):
        if mine is not None and theirs:
            return tuple(theirs)
    return tuple(replicas)


class Turns:
    """Round robin: each distinct question keeps its own even turn. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._turns: OrderedDict[Question, Iterator[int]] = OrderedDict()
        self._begin = count()

    def of(self, question: Question) -> Iterator[int]:
        """The question's turn: whoever answers takes its next number, modulo the number of hosts.

        New questions begin at different hosts: where every request is a new question (a fresh
        ``min_lsn``), the hosts still share the load.
        """
        with self._lock:
            turn = self._turns.get(question)
            if turn is None:
                turn = self._turns[question] = count(next(self._begin))
                if len(self._turns) > _MAX_QUESTIONS:
                    self._turns.popitem(last=False)
            else:
                self._turns.move_to_end(question)
            return turn
