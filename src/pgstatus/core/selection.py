"""Which hosts answer a question. Pure: a snapshot and a question in, the equally good hosts out.

The order of preference for a question about replicas:

1. healthy replicas within the question's limits,
2. the healthy master, unless ``fallback`` is ``none``,
3. the same two again among the possibly dead hosts,
4. if ``fallback`` is ``stale``: the least late live replica of the master's history, marked stale.

A master that is known to be down never answers such a question. Among the replicas of one step
those in the data centre of this instance (``dc``) come first, then those in its region (``geo``),
then all others. `Turns` distributes the requests evenly among the hosts of an answer.
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
"""Longest time that a ``min_lsn`` question may wait."""

# Questions with a limit of their own (`min_lsn` above all) are unlimited in number. A turn that was
# dropped starts again at the next host.
_MAX_QUESTIONS = 1024

_PAGE = 8192
# Longest WAL page header (XLogLongPageHeaderData); the usual one has 24 bytes.
_PAGE_HEADER = 40


class Kind(StrEnum):
    """What is requested; the value is the endpoint's path without the slash."""

    MASTER = "master"
    REPLICA = "replica"
    SYNC_BY_TIME = "sync_by_time"
    SYNC_BY_BYTES = "sync_by_bytes"
    SYNC_BY_TIME_OR_BYTES = "sync_by_time_or_bytes"
    SYNC_BY_TIME_AND_BYTES = "sync_by_time_and_bytes"
    MOST_SYNC_BY_BYTES = "most_sync_by_bytes"


class Fallback(StrEnum):
    """What answers a question about replicas if no replica is within its limits."""

    MASTER = "master"
    """The master, unless it is down."""
    STALE = "stale"
    """The master, unless it is down; otherwise the least late live replica, marked stale."""
    NONE = "none"
    """No host."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question; a limit that is None does not apply. `Thresholds.question` creates them."""

    kind: Kind
    lag_ms: int | None = None
    lag_bytes: int | None = None
    min_lsn: int | None = None
    timeline: int | None = None
    """The timeline of ``min_lsn``; None: any."""
    fallback: Fallback = Fallback.MASTER


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits of a ``/sync_by_*`` question, and the fallback, if the request contains none."""

    lag_ms: int = 1000
    lag_bytes: int = 1_000_000
    fallback: Fallback = Fallback.MASTER

    def question(
        self,
        kind: Kind,
        lag_ms: int | None = None,
        lag_bytes: int | None = None,
        min_lsn: int | None = None,
        timeline: int | None = None,
        fallback: Fallback | None = None,
    ) -> Question:
        """The question with the limits that apply to its kind, and no others."""
        if kind is Kind.MASTER:
            return Question(kind)
        if kind is not Kind.REPLICA:
            lag_ms = self.lag_ms if lag_ms is None else lag_ms
            lag_bytes = self.lag_bytes if lag_bytes is None else lag_bytes
            lag_ms = lag_ms if kind in _BY_TIME else None
            lag_bytes = lag_bytes if kind in _BY_BYTES else None
        return Question(
            kind,
            lag_ms,
            lag_bytes,
            min_lsn,
            timeline,
            self.fallback if fallback is None else fallback,
        )


_BY_TIME = {Kind.SYNC_BY_TIME, Kind.SYNC_BY_TIME_OR_BYTES, Kind.SYNC_BY_TIME_AND_BYTES}
_BY_BYTES = set(Kind) - {Kind.MASTER, Kind.REPLICA, Kind.SYNC_BY_TIME}


@dataclass(frozen=True, slots=True)
class Place:
    """The location of this instance; None: not considered."""

    dc: str | None = None
    geo: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer to a question: hosts that are equally good, in list order; empty: none."""

    hosts: tuple[HostStatus, ...] = ()
    fell_back: bool = False
    """A question about replicas is answered with the master."""
    stale: bool = False
    """The host exceeds the limits of the question (``fallback=stale``)."""


def choose(
    snapshot: Snapshot, question: Question, place: Place, *, use_master: bool = True
) -> Choice:
    """The answer to the question.

    ``use_master=False`` answers a question about replicas as if the master were down; it serves
    requests in excess of ``fallback_per_s``.
    """
    master = snapshot.master
    if question.kind is Kind.MASTER:
        return Choice(() if master is None else (master,))
    if not use_master or (master is not None and not _may_fall_back(master, question)):
        master = None
    fitting = [s for s in snapshot.hosts if objection(s, question) is None]
    for possible_dead in (False, True):
        replicas = [s for s in fitting if s.possible_dead is possible_dead]
        if replicas:
            return Choice(_nearest(replicas, question, place))
        if master is not None and master.possible_dead is possible_dead:
            return Choice((master,), fell_back=True)
    if question.fallback is Fallback.STALE:
        return _least_late(snapshot, question)
    return Choice()


def _may_fall_back(master: HostStatus, question: Question) -> bool:
    return not (master.down or question.fallback is Fallback.NONE or is_outdated(master, question))


def _least_late(snapshot: Snapshot, question: Question) -> Choice:
    replicas = [
        status
        for status in snapshot.hosts
        if status.is_live_replica and status.same_history and _behind(status, question) is None
    ]
    if not replicas:
        return Choice()
    # Within one history the replica with the highest position is the least late one.
    best = min(replicas, key=lambda s: (s.possible_dead, -1 if s.lsn is None else -s.lsn))
    return Choice((best,), stale=True)


def is_reached(snapshot: Snapshot, question: Question) -> bool:
    """A healthy replica answers the question; waiting is not necessary."""
    return any(
        not status.possible_dead and objection(status, question) is None
        for status in snapshot.hosts
    )


def may_be_reached(snapshot: Snapshot) -> bool:
    """A healthy replica exists; it may answer the question later."""
    return any(s.role is Role.REPLICA and not s.possible_dead for s in snapshot.hosts)


def refusal(snapshot: Snapshot, status: HostStatus, question: Question) -> str | None:
    """Why a load balancer should not use this host for the question; None: it should.

    The preference is that of `choose` without the master: possibly dead hosts are used only if no
    healthy replica is within the limits.
    """
    reason = objection(status, question)
    if reason is None and status.possible_dead and is_reached(snapshot, question):
        return not_first(status)
    return reason


def not_first(status: HostStatus) -> str:
    """Why a possibly dead host within the limits is not the answer while a healthy one exists."""
    return f"{possibly_dead(status)}; healthy hosts are preferred"


def possibly_dead(status: HostStatus) -> str:
    """The health of a possibly dead host, with the cause."""
    return f"{'down' if status.down else 'possibly dead'} ({status.error})"


def why_not_master(status: HostStatus) -> str:
    """Why this host is not the answer of ``/master``."""
    # The reason of a live replica refers to its freshness.
    return (not status.is_live_replica and status.reason) or f"{status.role}, not master"


def why_none(snapshot: Snapshot, question: Question) -> str | None:
    """Why no host answers the question."""
    master = snapshot.master
    if master is None:
        return snapshot.no_master
    if is_outdated(master, question):
        return f"{master.host}: {outdated(master, question)}"
    if question.kind is Kind.MASTER:
        return None
    if master.down:
        return (
            f"no replica is within the limits; the master {master.host} is {possibly_dead(master)}"
        )
    if question.fallback is Fallback.NONE:
        return "no replica is within the limits (fallback=none)"
    return "no replica is within the limits; the limit of requests to the master is reached"


def outdated(master: HostStatus, question: Question) -> str:
    """`is_outdated` in words."""
    return f"master on timeline {master.timeline}, timeline {question.timeline} is required"


def is_outdated(master: HostStatus, question: Question) -> bool:
    """The client has written on a newer timeline than the master's.

    The master was replaced and this instance has not detected it yet: the client's own write is
    missing there.
    """
    return (master.timeline or 0) < (question.timeline or 0)


def objection(status: HostStatus, question: Question) -> str | None:
    """Why this host does not answer a question about replicas; None: it does."""
    if not status.is_live_replica:
        return status.reason or "not a live replica"
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
        return status.reason or "different history"
    return over(lag, limit, unit)


def _behind(status: HostStatus, question: Question) -> str | None:
    if question.min_lsn is None:
        return None
    if not status.same_history:
        return status.reason or "different history"
    if question.timeline is not None and question.timeline != status.history:
        return f"timeline {status.history}, timeline {question.timeline} is required"
    if status.lsn is None or status.lsn < _end_of_records(question.min_lsn):
        reached = "none" if status.lsn is None else format_lsn(status.lsn)
        return f"replayed position {reached}, {format_lsn(question.min_lsn)} is required"
    return None


def _end_of_records(lsn: int) -> int:
    """The lowest replay position at which every record that ends at or before ``lsn`` is replayed.

    An insert position just after a page header is reported past the header, while the replay
    position ends before it. The shortest record has 24 bytes: one that ends within the first 47
    bytes of a page has begun on the page before, so that a replay position at the start of this
    page includes it. This holds for the short and the long header, whatever the segment size.
    """
    offset = lsn % _PAGE
    return lsn - offset if offset <= _PAGE_HEADER else lsn


def _nearest(
    replicas: Sequence[HostStatus], question: Question, place: Place
) -> tuple[HostStatus, ...]:
    if question.kind is Kind.MOST_SYNC_BY_BYTES:
        return (min(replicas, key=lambda s: s.lag_bytes or 0),)
    for here, near in (
        (place.dc, [s for s in replicas if s.host.dc == place.dc]),
        (place.geo, [s for s in replicas if s.host.geo == place.geo]),
    ):
        if here is not None and near:
            return tuple(near)
    return tuple(replicas)


class Turns:
    """Round robin: each distinct question has its own turn. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._turns: OrderedDict[Question, Iterator[int]] = OrderedDict()
        self._begin = count()

    def of(self, question: Question) -> Iterator[int]:
        """The question's turn; an answer takes its next number, modulo the number of hosts.

        New questions start at different hosts: if every request is a new question (a fresh
        ``min_lsn``), the load is still distributed evenly.
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
