"""What the monitor knows, as it is served: each host with its health, lag and reasons in words.

Pure: a state in, a snapshot out. Hosts for which nothing has changed since the previous snapshot
are taken from it, so that the cost of one result does not depend on the number of hosts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from math import ceil, inf
from operator import is_not

from pgstatus.core.election import Election
from pgstatus.core.lag import over
from pgstatus.core.snapshot import HostStatus, Observation, Role, Snapshot
from pgstatus.core.state import Record, Rules, State, contradiction


@dataclass(frozen=True, slots=True)
class _Context:
    """What the status of a host depends on, apart from its own record."""

    system_identifier: int | None
    ready: bool
    election: Election
    timeline: int | None
    writer: str | None
    writers: frozenset[str]
    down: frozenset[int]
    has_samples: bool
    rules: Rules


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a snapshot was created from."""

    context: _Context
    hosts: object
    records: tuple[Record, ...]


def view(state: State, rules: Rules, before: Snapshot | None = None) -> Snapshot:
    """What is served of this state; ``before`` is the previous snapshot."""
    context = _Context(
        state.system_identifier,
        state.ready,
        state.election,
        state.current_timeline,
        state.history.writer,
        state.writers,
        state.down,
        bool(state.history.samples),
        rules,
    )
    election = state.election if state.ready else Election()
    basis = before.basis if before is not None else None
    if (
        before is not None
        and isinstance(basis, _Basis)
        and basis.hosts is state.hosts
        and basis.context == context
    ):
        statuses = list(before.hosts)
        for index in compress(range(len(statuses)), map(is_not, state.records, basis.records)):
            statuses[index] = _status(state, index, election, rules)
    else:
        statuses = [_status(state, i, election, rules) for i in range(len(state.hosts))]
    hosts = tuple(statuses)
    return Snapshot(
        hosts=hosts,
        ready=state.ready,
        masters=tuple(hosts[c.index] for c in state.election.candidates if c.healthy),
        no_master=_no_master(state, election) if election.winner is None else None,
        last_master=None if state.incumbent is None else state.hosts[state.incumbent],
        split_brain=election.split_brain is not None,
        sources=state.sources,
        stale_after=state.newest_check + rules.max_staleness if rules.max_staleness else inf,
        basis=_Basis(context, state.hosts, state.records),
    )


def _status(state: State, index: int, election: Election, rules: Rules) -> HostStatus:
    record, host = state.records[index], state.hosts[index]
    seen = record.seen
    if seen is None:
        return HostStatus(
            host,
            checked_at=record.checked_at,
            error=_error(record),
            reason=_absent(record, rules),
            watcher=record.watcher,
            watchers=record.watchers,
        )
    if state.is_foreign(record):
        return _present(state, index, record, seen, excluded=True, reason=_foreign(state, record))
    if index == election.winner:
        return _present(
            state,
            index,
            record,
            seen,
            master=True,
            lag_ms=0,
            lag_bytes=0,
            sync_by_time=True,
            sync_by_bytes=True,
            same_history=True,
            history=seen.timeline,
            down=index in state.down,
        )
    if not seen.in_recovery:
        reason, down = election.reasons.get(index), index in state.down
        return _present(state, index, record, seen, reason=reason, down=down)
    return _replica(state, index, record, seen, rules)


def _present(
    state: State,
    index: int,
    record: Record,
    seen: Observation,
    *,
    master: bool = False,
    down: bool = False,
    lag_ms: int | None = None,
    lag_bytes: int | None = None,
    sync_by_time: bool = False,
    sync_by_bytes: bool = False,
    tolerated: bool = False,
    same_history: bool = False,
    history: int | None = None,
    reason: str | None = None,
    excluded: bool = False,
) -> HostStatus:
    """The status of a live host. (``replace`` on a common part would cost as much again.)"""
    upstream = record.streams_from
    if upstream is None and seen.receiving and seen.upstream is not None:
        name, port = seen.upstream
        upstream = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    return HostStatus(
        state.hosts[index],
        seen.role,
        master,
        True,
        record.failure is not None,
        down,
        seen.timeline,
        seen.lsn,
        lag_ms,
        lag_bytes,
        sync_by_time,
        sync_by_bytes,
        tolerated,
        same_history,
        history,
        upstream if seen.role is Role.REPLICA else None,
        seen.admits,
        seen.refusal,
        record.checked_at,
        seen.started,
        _error(record),
        reason,
        excluded,
        record.watcher,
        record.watchers,
    )


def _error(record: Record) -> str | None:
    return None if record.failure is None else record.failure.message


def _replica(
    state: State, index: int, record: Record, seen: Observation, rules: Rules
) -> HostStatus:
    different = contradiction(state, record)
    if different is not None:
        return _present(state, index, record, seen, history=seen.timeline, reason=different)
    seconds = record.lag.seconds
    lag_ms = None if seconds is None else ceil(seconds * 1000)
    lag_bytes = record.lag.size
    late_by_time = over(lag_ms, rules.sync_max_lag_ms, "ms")
    if lag_ms is None and not record.unsettled:
        late_by_time = f"{late_by_time}: {_why_no_time_lag(state)}"
    late_by_bytes = over(lag_bytes, rules.sync_max_lag_bytes, "bytes")
    reasons = [reason for reason in (late_by_time, late_by_bytes) if reason]
    return _present(
        state,
        index,
        record,
        seen,
        lag_ms=lag_ms,
        lag_bytes=lag_bytes,
        sync_by_time=late_by_time is None,
        sync_by_bytes=late_by_bytes is None,
        tolerated=late_by_time is not None and record.synced,
        same_history=True,
        history=state.current_timeline,
        reason="; ".join(reasons) or None,
    )


def _why_no_time_lag(state: State) -> str:
    if state.history.newest is None:
        return "no position of a master is known yet"
    return "nothing replayed that was written since the master is observed"


def _absent(record: Record, rules: Rules) -> str:
    if record.checked_at is None:
        return "not checked yet"
    if record.failure is None:
        return "no recent check"
    if record.fails < rules.max_fails:
        return "no recent successful check"
    return f"dead: {record.fails} failed check{'s' if record.fails > 1 else ''} in a row"


def _foreign(state: State, record: Record) -> str:
    return (
        f"different cluster: system identifier {record.system_identifier} "
        f"(expected {state.system_identifier})"
    )


def _not_ready(records: Sequence[Record]) -> str:
    if not records:
        return "no watcher has delivered evidence yet"
    if all(record.checked is None and record.checked_at is not None for record in records):
        return "no host has been checked recently"
    return "not every host has been checked yet"


def _no_master(state: State, election: Election) -> str:
    if not state.ready:
        return _not_ready(state.records) + _lost(state.sources)
    if election.split_brain is not None:
        return election.split_brain
    rejected = [f"{state.hosts[index]}: {reason}" for index, reason in election.reasons.items()]
    return "; ".join(rejected) or "no live host is a master"


def without_sources(no_master: str, sources: Iterable[tuple[str, str | None]]) -> str:
    """Why a snapshot is not ready, without the errors of its sources, which contain addresses."""
    return no_master.removesuffix(_lost(sources))


def _lost(sources: Iterable[tuple[str, str | None]]) -> str:
    return "".join(f"; {name}: {why}" for name, why in sources if why is not None)
