"""Which replicas are refuted: their history is not that of the master. Pure.

A replica is refuted if it has replayed a position that the master had not written later, and so is
what streams from it.
"""

from pgstatus.core.lag import is_ahead
from pgstatus.core.snapshot import Observation
from pgstatus.core.state import Lag, Record, State


def compared(state: State, record: Record, seen: Observation) -> Record:
    """The replica with what its check shows of its history.

    A replica restores its own WAL before it streams: a refuted one that streams and is at another
    position was rebuilt, or has continued the history of the server that it streams from.
    """
    trusted = seen.receiving and (
        record.follows == state.history.writer
        or (record.follows is None and len(state.writers) <= 1)
    )
    upstream, refuted_at = _refuted_upstream(state, record), record.refuted_at
    if upstream is None and not trusted:
        upstream = record.refuted_upstream
    if refuted_at is not None:
        if trusted and upstream is None and seen.lsn != refuted_at:
            refuted_at = None
        elif not seen.receiving:
            refuted_at = seen.lsn or refuted_at
    if (refuted_at, upstream) != (record.refuted_at, record.refuted_upstream):
        record = record._replace(refuted_at=refuted_at, refuted_upstream=upstream)
    return refuted(record, seen) if is_ahead(state.history, seen) else record


def is_newly_refuted(before: Record, after: Record) -> bool:
    """Those that stream from it are not refuted yet; see `inherited`."""
    return before.refuted_at is None and after.refuted_at is not None


def inherited(state: State) -> State:
    """The state after a replica was refuted: those that stream from it have its history."""
    records = tuple(
        record._replace(refuted_upstream=upstream, lag=Lag())
        if (upstream := _refuted_upstream(state, record)) is not None
        else record
        for record in state.records
    )
    return state._replace(records=records)


def refuted(record: Record, seen: Observation) -> Record:
    """The replica after it was found to be ahead of its master."""
    return record._replace(refuted_at=seen.lsn, lag=Lag())


def _refuted_upstream(state: State, record: Record) -> str | None:
    """The next server with another history than the master that this replica streams from."""
    visited = {state.history.writer}
    while (name := record.streams_from) is not None and name not in visited:
        visited.add(name)
        hosts = zip(state.hosts, state.records, strict=True)
        upstream = next((other for host, other in hosts if str(host) == name), None)
        if upstream is None:
            return None
        if upstream.refuted_at is not None:
            return name
        if upstream.refuted_upstream is not None:
            return upstream.refuted_upstream
        record = upstream
    return None
