"""What follows from all hosts together: the cluster, its newest timeline, its master, whose history
each replica has, and whether the master is down. Pure.

`changes_decision` is the list of the facts that matter for this. While they are the same, nothing
has to be decided again.
"""

from collections.abc import Sequence

from pgstatus.core.election import Candidate, elect, is_older
from pgstatus.core.evidence import determine_cluster, determine_timeline
from pgstatus.core.lineage import Upstreams, follow, may_stream_from, upstreams
from pgstatus.core.snapshot import Observation
from pgstatus.core.state import Lag, Record, Rules, State


def changes_decision(before: Record, after: Record) -> bool:
    """The new result of a host differs from the one before in a fact that matters."""
    old, new = before.seen, after.seen
    return (
        (before.checked is None) is not (after.checked is None)
        or before.has_failed is not after.has_failed
        or _is_down(before) is not _is_down(after)
        or before.system_identifier != after.system_identifier
        or before.unconfirmed
        or (old is not new and (old is None or new is None or _differ(old, new)))
    )


def _is_down(record: Record) -> bool:
    return record.failure is not None and record.failure.down


def _differ(old: Observation, new: Observation) -> bool:
    return (
        old.in_recovery is not new.in_recovery
        or old.timeline != new.timeline
        or old.control_timeline != new.control_timeline
        or old.receiving is not new.receiving
        or old.upstream != new.upstream
        or old.addresses != new.addresses
        or old.standbys != new.standbys
    )


def decide(state: State, rules: Rules, now: float) -> State:
    """The state after its facts have changed; ``now`` is when the last of them was observed."""
    state = determine_timeline(determine_cluster(state))
    streams = upstreams(state)
    ready = state.ready or all(record.checked is not None for record in state.records)
    election = elect(
        _candidates(state, streams),
        newest_timeline=state.newest_timeline,
        current=state.incumbent,
        policy=rules.split_brain,
    )
    # Before every host was checked, the first one to respond has no precedence.
    incumbent = state.incumbent
    if ready and election.winner is not None:
        incumbent = election.winner
    state = state._replace(election=election, incumbent=incumbent, ready=ready)
    state = follow(_with_history(state), streams)
    return state._replace(
        down_since=_down_since(state, streams, now),
        down=_down(state, streams),
        in_transition=_in_transition(state),
    )


def _candidates(state: State, streams: Upstreams) -> Sequence[Candidate]:
    followed = set(streams)
    return [
        Candidate(
            index,
            str(state.hosts[index]),
            record.seen.timeline,
            record.failure is None,
            index in followed,
        )
        for index, record in enumerate(state.records)
        if record.seen is not None and not record.seen.in_recovery and not state.is_foreign(record)
    ]


def _with_history(state: State) -> State:
    """The state with the history that the elected master writes."""
    if state.master is None:
        return state
    record = state.records[state.master]
    timeline = None if record.seen is None else record.seen.timeline
    history = state.history.continued_by(
        str(state.hosts[state.master]), timeline, record.in_recovery_at
    )
    if history is state.history:
        return state
    # Lags were measured against the former history.
    records = tuple(record._replace(lag=Lag()) for record in state.records)
    return state._replace(history=history, records=records)


def _down_since(state: State, streams: Upstreams, now: float) -> float | None:
    """Since when the server that wrote the history is known to be down.

    A refused connection is not enough: a server that shuts down may still serve its sessions, and
    its address may be wrong. Its replicas lose their connection when it has ended.
    """
    writer = next(
        (i for i, host in enumerate(state.hosts) if str(host) == state.history.writer), None
    )
    if writer is None or not _is_down(state.records[writer]):
        return None
    if _may_be_followed(state, streams, writer):
        return None
    return state.down_since if state.down_since is not None else now


def _down(state: State, streams: Upstreams) -> frozenset[int]:
    """The primaries that are down, by the same rule."""
    return frozenset(
        index
        for index, record in enumerate(state.records)
        if _is_down(record)
        and record.seen is not None
        and not record.seen.in_recovery
        and not _may_be_followed(state, streams, index)
    )


def _may_be_followed(state: State, streams: Upstreams, index: int) -> bool:
    """A live replica may stream from this host; one on a newer timeline does not."""
    server = state.records[index].seen
    timeline = None if server is None else server.timeline
    return any(
        record.is_live_replica
        and record.seen is not None
        and not state.is_foreign(record)
        and may_stream_from(record.seen, streams[replica], index)
        and not is_older(timeline, record.seen.timeline)
        for replica, record in enumerate(state.records)
    )


def _in_transition(state: State) -> bool:
    if not state.ready or state.master is None or not state.has_healthy_master:
        return True
    master = state.records[state.master].seen
    return master is not None and any(
        record.is_live_replica
        and record.seen is not None
        and (record.seen.timeline or master.timeline or 0) < (master.timeline or 0)
        for record in state.records
    )
