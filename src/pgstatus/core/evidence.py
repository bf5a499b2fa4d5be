"""Which cluster the hosts belong to, and which timeline is its newest. Pure.

* The system identifier is determined by live hosts that respond for the first time; from then on
  it is fixed. If the host that was the master returns with a different identifier, and fewer live
  members of the cluster have the old one, the cluster was upgraded or re-created: the new
  identifier is adopted. A host that has always been foreign does not count.
* The newest timeline is the highest one that a host has written or received. Each host is evidence
  for the highest one that it has shown, also while it cannot be reached, because it may return. The
  evidence is discarded when the host is alive on an older timeline, belongs to another cluster, or
  was removed. A data directory never returns to an older timeline: the host was rebuilt.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pgstatus.core.lag import WalHistory
from pgstatus.core.state import Record, State


def determine_cluster(state: State) -> State:
    """The state with the system identifier of its cluster."""
    before, identifier = state.system_identifier, _identifier(state)
    if identifier != before and before is not None:
        # Timelines and positions of another cluster are not comparable with those known.
        state = state._replace(
            evidence={},
            writers=frozenset(),
            history=WalHistory(),
            records=tuple(
                record._replace(refuted_at=None, refuted_upstream=None) for record in state.records
            ),
        )
    state = state._replace(system_identifier=identifier)
    if all(record.member or not _has(record, identifier) for record in state.records):
        return state
    records = tuple(
        record._replace(member=True) if _has(record, identifier) else record
        for record in state.records
    )
    return state._replace(records=records)


def _has(record: Record, identifier: int | None) -> bool:
    return identifier is not None and record.system_identifier == identifier


def _identifier(state: State) -> int | None:
    current = state.system_identifier
    if current is None or not (state.ready or state.restored):
        # Before every host was checked, the first one to respond does not decide.
        return most_common(_identifiers(state.records), current)
    if state.restored and any(record.checked is None for record in state.records):
        return current
    master = None if state.incumbent is None else state.records[state.incumbent]
    if master is None or master.seen is None or master.system_identifier in (None, current):
        return current
    live = Counter(_identifiers(r for r in state.records if r.member or r is master))
    new = master.system_identifier
    return new if live[new] > live[current] else current


def _identifiers(records: Iterable[Record]) -> list[int]:
    return [
        record.system_identifier
        for record in records
        if record.seen is not None and record.system_identifier is not None
    ]


def most_common(identifiers: Sequence[int], current: int | None) -> int | None:
    """The identifier of most hosts, of equal ones the first listed; without any, ``current``."""
    counts = Counter(identifiers)
    return max(counts, key=counts.__getitem__) if counts else current


def determine_timeline(state: State) -> State:
    """The state with the timelines that its hosts are evidence for, and who wrote the newest."""
    names = [str(host) for host in state.hosts]
    known = {
        name: record
        for name, record in zip(names, state.records, strict=True)
        if not state.is_foreign(record)
    }
    before, writers = state.newest_timeline, state.writers
    evidence = _evidence(state, known)
    if evidence != state.evidence:
        state = state._replace(evidence=evidence)
    newest = state.newest_timeline
    writing = frozenset(
        name
        for name, record in known.items()
        if record.seen is not None
        and not record.seen.in_recovery
        and record.seen.timeline in (None, newest)
    )
    return state._replace(writers=writing | writers if newest == before else writing)


def _evidence(state: State, known: Mapping[str, Record]) -> dict[str, int]:
    newest = state.newest_timeline
    evidence = {}
    for name, record in known.items():
        timeline = state.evidence.get(name)
        wrote = timeline == newest and name in state.writers
        if timeline is not None and not _is_rebuilt(record, timeline, wrote=wrote):
            evidence[name] = timeline
        shown = _shown(record)
        if shown is not None and shown > evidence.get(name, 0):
            evidence[name] = shown
    return evidence


def _shown(record: Record) -> int | None:
    """The timeline that a live host shows."""
    if record.seen is None:
        return None
    if record.seen.timeline is None:
        return record.seen.control_timeline
    return record.seen.timeline


def _is_rebuilt(record: Record, timeline: int, *, wrote: bool) -> bool:
    """The host is alive and has not this timeline any more; ``wrote``: it wrote to it."""
    seen = record.seen
    if seen is None or record.has_failed:
        return False
    shown = _shown(record)
    if shown is not None and shown >= timeline:
        return False
    if not seen.in_recovery or seen.receiving:
        # What it writes or receives is certain. If a replica does not show what it receives, the
        # server that it receives from is the better evidence.
        return True
    # Without a receiver it shows the timeline of its last restartpoint, which may be older than
    # what it has received, but not older than what it has written.
    return wrote and shown is not None
