"""What the tracker knows, as it is served: each host with its health, lag and reasons in words.

Pure: a state in, a snapshot out.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, inf

from pgstatus.core.election import Election
from pgstatus.core.lag import is_ahead, over
from pgstatus.core.snapshot import HostStatus, Observation, Snapshot
from pgstatus.core.state import Record, Rules, State, candidates, hold_election, is_foreign


def view(state: State, rules: Rules, before: Snapshot | None = None) -> Snapshot:
    """What is served of this state."""
    election = hold_election(state, rules) if state.ready else Election(None, {})
    hosts = tuple(_status(state, i, election, rules) for i in range(len(state.hosts)))
    return Snapshot(
        hosts=hosts,
        ready=state.ready,
        masters=tuple(hosts[c.index] for c in candidates(state) if c.healthy),
        no_master=_no_master(state, hosts, election) if election.winner is None else None,
        split_brain=election.split_brain is not None,
        stale_after=_stale_after(state, rules),
    )


def _stale_after(state: State, rules: Rules) -> float:
    """Not the oldest check counts, but the newest: what is old of single hosts is forgotten."""
    checked = [record.checked for record in state.records if record.checked is not None]
    if not rules.max_staleness:
        return inf
    return max(checked, default=-inf) + rules.max_staleness


def _status(state: State, index: int, election: Election, rules: Rules) -> HostStatus:
    record, seen = state.records[index], state.records[index].seen
    status = HostStatus(
        host=state.hosts[index],
        checked_at=record.checked_at,
        error=record.failure.message if record.failure else None,
    )
    if seen is None:
        return replace(status, reason=_absent(record, rules))
    status = replace(
        status,
        role=seen.role,
        alive=True,
        possible_dead=record.failure is not None,
        timeline=seen.timeline,
        lsn=seen.lsn,
        seen=seen.started,
    )
    if is_foreign(state, record):
        return replace(status, excluded=True, reason=_foreign(state, record))
    if index == election.winner:
        return replace(
            status,
            master=True,
            lag_ms=0,
            lag_bytes=0,
            sync_by_time=True,
            sync_by_bytes=True,
            same_history=True,
            history=seen.timeline,
        )
    if not seen.in_recovery:
        return replace(status, reason=election.reasons.get(index))
    return _replica(status, state, record, seen, rules)


def _replica(
    status: HostStatus, state: State, record: Record, seen: Observation, rules: Rules
) -> HostStatus:
    seconds = record.lag.seconds
    lag_ms = None if seconds is None else ceil(seconds * 1000)
    # Where the master ends is known only as long as it answers.
    lag_bytes = record.lag.size if state.has_healthy_master else None
    strange = _other_history(state, seen)
    late_by_time = over(lag_ms, rules.sync_max_lag_ms, "ms")
    if lag_ms is None and not record.unsettled:
        late_by_time = f"{late_by_time}: {_why_no_time_lag(state)}"
    late_by_bytes = over(lag_bytes, rules.sync_max_lag_bytes, "bytes")
    if not state.has_healthy_master:
        late_by_bytes = f"{late_by_bytes}: the master does not answer"
    return replace(
        status,
        lag_ms=lag_ms,
        lag_bytes=lag_bytes,
        same_history=strange is None,
        history=_current_timeline(state) if strange is None else seen.timeline,
        sync_by_time=strange is None and late_by_time is None,
        sync_by_bytes=strange is None and late_by_bytes is None,
        reason=strange or "; ".join(filter(None, (late_by_time, late_by_bytes))) or None,
    )


def _why_no_time_lag(state: State) -> str:
    if state.history.newest is None:
        return "no master was seen yet"
    return "it has replayed nothing that was written since we saw the master"


def _other_history(state: State, seen: Observation) -> str | None:
    """Why this replica's LSN cannot be compared with the master's; None where it can."""
    current = _current_timeline(state)
    if seen.timeline is not None and current is not None and seen.timeline != current:
        whose = "the newest" if state.master is None else "the master's"
        return f"follows timeline {seen.timeline}; {whose} is {current}"
    if is_ahead(state.history, seen):
        return "has replayed log that the master never wrote: it follows another history"
    if seen.timeline is None and len(candidates(state)) > 1:
        return (
            "follows a timeline that cannot be read (pg_monitor is missing), and there are "
            "several masters"
        )
    return None


def _current_timeline(state: State) -> int | None:
    master = None if state.master is None else state.records[state.master].seen
    return master.timeline if master else state.newest_timeline


def _absent(record: Record, rules: Rules) -> str:
    if record.checked_at is None:
        return "was not checked yet"
    if record.failure is None:
        return "was not checked lately"
    if record.fails < rules.max_fails:
        return "has not answered lately"
    return f"is dead: {record.fails} failed check{'s' if record.fails > 1 else ''} in a row"


def _foreign(state: State, record: Record) -> str:
    return (
        f"belongs to another cluster: its system identifier is {record.system_identifier}, "
        f"the others have {state.system_identifier}"
    )


def _no_master(state: State, hosts: Sequence[HostStatus], election: Election) -> str:
    if not state.ready:
        return "not every host has been asked yet"
    if election.split_brain is not None:
        return election.split_brain
    rejected = [f"{hosts[index].host} {reason}" for index, reason in election.reasons.items()]
    return "; ".join(rejected) or "no live host says that it is the master"
