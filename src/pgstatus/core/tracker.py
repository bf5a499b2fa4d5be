"""What the result of a check changes in what is known. Pure: state in, state out.

* A successful check makes a host alive and healthy, whatever it was.
* A failed check makes a live host *possibly dead*: its last observation remains valid, but healthy
  hosts are preferred. ``max_fails`` failures in a row make it dead. Failures in quick succession
  (the fast schedule of a failover) count once per ``sleep``, so that the time until a host is dead
  does not depend on how often it was checked.
* An overdue check of a replica makes it possibly dead until it ends. A check is overdue when it
  takes half a second longer than the recent ones: a slow replica is not taken for a frozen one
  again and again.
* A successful check that contradicts what was known (another role, timeline or cluster) replaces
  it. Which cluster, which timeline and which master are current is decided again whenever a fact
  changes that matters for it, and not otherwise: a result costs the same with 3 and 300 hosts.
* A replica that appears late may only have been checked at an unfavourable moment. Its lag remains
  as it was until it was checked again, or until the master's check of the same round is complete. A
  position check is no evidence of lag at all: the master was not checked with it.
* Results older than ``max_staleness`` expire: the host is unknown until it responds. If nothing is
  left (this process was suspended, for example), every host has to be checked as at the start: the
  first one to respond may be a master that was replaced in the meantime.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from math import inf

from pgstatus.core.decision import changes_decision, decide
from pgstatus.core.divergence import compared, inherited, is_newly_refuted, refuted
from pgstatus.core.lag import byte_lag, is_ahead, is_conclusive, time_lag
from pgstatus.core.snapshot import Failure, Host, Observation, Position
from pgstatus.core.state import Lag, Look, Memory, Record, Rules, State, contradiction
from pgstatus.errors import Cause

# A lag below this is settled without a second check, seconds. On a network without problems the
# checks of one round are no further apart.
RECHECK_OVER = 0.1
# A check that takes this much longer than usual is overdue, seconds.
_OVERDUE = 0.5
# An exceptionally long response is forgotten by this factor per round.
_FORGETTING = 0.9


def fold(
    state: State,
    index: int,
    result: Observation | Failure,
    checked_at: datetime,
    rules: Rules,
    look: Look = Look.ROUND,
) -> State:
    """The state after one more result for host ``index``."""
    before = state.records[index]
    if isinstance(result, Observation):
        result = _with_timeline(before, result, state.evidence.get(str(state.hosts[index])))
        record = _succeeded(before, result, checked_at, look)
        if _went_back(before, record):
            rebuilt = str(state.hosts[index])
            state = state._replace(
                evidence={n: shown for n, shown in state.evidence.items() if n != rebuilt}
            )
    else:
        record = _failed(before, result, checked_at, rules)
    outage, received = _outage(state), state.history.received
    decided = state.ready and not changes_decision(before, record)
    state = state._replace(
        records=_with(state.records, index, record),
        newest_check=max(state.newest_check, result.started),
        oldest_evidence=min(state.oldest_evidence, result.started),
    )
    if not decided:
        state = decide(state, rules, result.finished)
    if state.master == index and isinstance(result, Observation):
        restarted = before.failure is not None and before.failure.down
        return _sampled(state, result, rules, restarted=restarted)
    state = _compare(state, index)
    if _outage(state) != outage or (
        not state.has_healthy_master and state.history.received != received
    ):
        state = _measure_all(state, rules)
    return _measure(state, index, look, rules)


def fold_position(state: State, index: int, position: Position, rules: Rules) -> State:
    """The state after a position check of replica ``index``.

    The other facts remain those of its last complete check.
    """
    record = state.records[index]
    seen = record.seen
    if seen is None or not (seen.in_recovery and position.in_recovery):
        return state
    seen = replace(seen, lsn=position.lsn, finished=position.finished)
    record = record._replace(seen=seen)
    state = state._replace(records=_with(state.records, index, record))
    state = _compare(state, index)
    lag = time_lag(state.history, seen)
    if record.failure is not None or lag is None or lag > RECHECK_OVER + seen.uncertainty:
        return state
    measured = _with_lag(state, state.records[index], seen, rules)
    return state._replace(records=_with(state.records, index, measured))


def suspect(state: State, index: int, asked: float, now: float) -> State:
    """The state while replica ``index`` has not responded to the check that began at ``asked``.

    To be called when the check has taken `overdue_after` seconds; without effect before.

    As after a failed check, but it is not counted: the check may still succeed. A master is not
    affected: there is no host to prefer to it, and lags are measured against it.
    """
    record = state.records[index]
    if not record.is_live_replica or record.overdue:
        return state
    if now - asked < overdue_after(state, index):
        return state
    failure = Failure(Cause.TIMEOUT, f"no response for {now - asked:.1f} s", asked, now)
    return overdue(state, index, failure)


def overdue(state: State, index: int, failure: Failure) -> State:
    """The state after the check of host ``index`` was found to be overdue."""
    record = state.records[index]
    if not record.is_live_replica or record.overdue:
        return state
    record = record._replace(failure=failure, overdue=True)
    return state._replace(records=_with(state.records, index, record))


def adopt(state: State, memory: Memory, rules: Rules, now: float) -> State:
    """The state with what another instance remembers; see `State.adopt`."""
    adopted = state.adopt(memory)
    return state if adopted is state else decide(adopted, rules, now)


def list_hosts(state: State, hosts: Sequence[Host], rules: Rules, now: float) -> State:
    """The state after hosts were added or removed. A new host is unknown until it was checked."""
    return decide(state.with_hosts(hosts), rules, now)


def overdue_after(state: State, index: int) -> float:
    """How long a check of this host may take until it is overdue, seconds."""
    return _OVERDUE + state.records[index].response_time


def expire(state: State, now: float, rules: Rules) -> State:
    """The state without results that are too old."""
    if not is_too_old(state.oldest_evidence, now, rules):
        return state
    records = tuple(_unexpired(record, now, rules) for record in state.records)
    times = [
        min(record.checked, record.seen.started if record.seen else inf)
        for record in records
        if record.checked is not None
    ]
    state = state._replace(oldest_evidence=min(times, default=inf))
    if all(new is old for new, old in zip(records, state.records, strict=True)):
        return state
    known = any(record.checked is not None for record in records)
    return decide(
        state._replace(
            records=records,
            ready=state.ready and known,
            restored=state.restored or (state.ready and not known),
            newest_check=state.newest_check if known else -inf,
        ),
        rules,
        now,
    )


def is_too_old(started: float, now: float, rules: Rules) -> bool:
    """The result of a check that began at ``started`` is not valid any more."""
    return rules.max_staleness > 0 and now - started > rules.max_staleness


def _with(records: tuple[Record, ...], index: int, record: Record) -> tuple[Record, ...]:
    return (*records[:index], record, *records[index + 1 :])


def _unexpired(record: Record, now: float, rules: Rules) -> Record:
    forgotten = record._replace(seen=None, lag=Lag(), synced=False, unsettled=False)
    if record.checked is not None and is_too_old(record.checked, now, rules):
        return forgotten._replace(fails=0, counted=-inf, failure=None, overdue=False, checked=None)
    if record.seen is not None and is_too_old(record.seen.started, now, rules):
        return forgotten
    return record


def _succeeded(before: Record, seen: Observation, checked_at: datetime, look: Look) -> Record:
    known = before.seen
    same_role = known is None or known.in_recovery == seen.in_recovery
    same_timeline = known is None or known.timeline in (None, seen.timeline)
    return before._replace(
        seen=seen,
        fails=0,
        counted=-inf,
        failure=None,
        overdue=False,
        response_time=_response_time(before, seen, look),
        # The values were true at the start: a response may have waited for this process to resume.
        checked=seen.started,
        asked_at=checked_at,
        lag=before.lag if same_role else Lag(),
        synced=before.synced and same_role,
        unsettled=seen.in_recovery
        and (look is Look.ROUND or (look is Look.POSITION and before.unsettled)),
        system_identifier=seen.system_identifier or before.system_identifier,
        addresses=seen.addresses or before.addresses,
        control_timeline=before.control_timeline
        if seen.control_timeline is None
        else seen.control_timeline,
        in_recovery_at=seen.started if seen.in_recovery else before.in_recovery_at,
        follows=before.follows if seen.in_recovery and same_timeline else None,
        refuted_at=before.refuted_at if seen.in_recovery else None,
        refuted_upstream=before.refuted_upstream if seen.in_recovery else None,
    )


def _with_timeline(before: Record, seen: Observation, shown: int | None) -> Observation:
    """The observation with the timeline of a replica that has no receiver.

    It shows the timeline of its last restartpoint, which can be older than what it has received, or
    none; but a data directory never goes back. ``shown`` is the highest one that it has shown.
    """
    if not seen.in_recovery or seen.receiving or _control_went_back(before, seen):
        return seen
    known = before.seen.timeline if before.seen is not None and before.seen.in_recovery else None
    is_hidden = seen.timeline is None and seen.control_timeline is None
    timelines = (known, seen.timeline, shown if is_hidden else None)
    timeline = max((t for t in timelines if t is not None), default=None)
    return seen if timeline == seen.timeline else replace(seen, timeline=timeline)


def _response_time(before: Record, seen: Observation, look: Look) -> float:
    if look is not Look.ROUND:
        return before.response_time
    overdue = before.failure if before.overdue else None
    took = seen.finished - (seen.started if overdue is None else overdue.started)
    return max(took, _FORGETTING * before.response_time)


def _control_went_back(before: Record, seen: Observation) -> bool:
    return (
        before.control_timeline is not None
        and seen.control_timeline is not None
        and seen.control_timeline < before.control_timeline
    )


def _went_back(before: Record, after: Record) -> bool:
    """Its control file shows an older timeline than before: the host was rebuilt."""
    return after.seen is not None and _control_went_back(before, after.seen)


def _failed(before: Record, failure: Failure, checked_at: datetime, rules: Rules) -> Record:
    # A round that a busy event loop begins a moment early is still the next round.
    counts = failure.started - before.counted >= 0.98 * rules.sleep
    fails = before.fails + counts
    dead = fails >= rules.max_fails
    return before._replace(
        seen=None if dead else before.seen,
        fails=fails,
        counted=failure.started if counts else before.counted,
        failure=failure,
        overdue=False,
        checked=failure.started,
        checked_at=checked_at,
        asked_at=checked_at,
        lag=Lag(before_outage=before.lag.before_outage) if dead else before.lag,
        synced=before.synced and not dead,
        unsettled=False,
        streams_from=None if dead else before.streams_from,
    )


def _outage(state: State) -> tuple[float | None, bool]:
    """The master does not respond; since when it is known to be down."""
    return state.down_since, state.has_healthy_master


def _compare(state: State, index: int) -> State:
    """Whether replica ``index`` has the history of the master; what it knows of that history."""
    record = state.records[index]
    seen = record.seen
    if not record.is_live_replica or seen is None or state.is_foreign(record):
        return state
    record = compared(state, record, seen)
    if record is not state.records[index]:
        before = state.records[index]
        state = state._replace(records=_with(state.records, index, record))
        if is_newly_refuted(before, record):
            state = inherited(state)
    if contradiction(state, record) is None:
        history = state.history.with_received(seen)
        if history is not state.history:
            return state._replace(history=history)
    return state


def _sampled(state: State, master: Observation, rules: Rules, *, restarted: bool) -> State:
    """The state with a new position of its master: replicas are compared with it.

    A server that was not running may have been restored from a copy, even if its position has not
    gone back: recovery writes WAL. What was measured against it before is no evidence any more.
    """
    restored = state.history.goes_back(master)
    history = state.history
    if restored or restarted:
        history = replace(history, samples=(), received=None)
    history = history.add(master)
    if history is state.history:
        return _measure_all(state, rules)

    def sampled(record: Record) -> Record:
        seen = record.seen
        if restored and (seen is None or seen.in_recovery):
            # Every replica may have the WAL of the former history, also one that is dead.
            return record._replace(refuted_at=(seen and seen.lsn) or 0, lag=Lag())
        if seen is None or not seen.in_recovery or record.refuted_at is not None:
            return record
        if is_ahead(history, seen):
            return refuted(record, seen)
        return record._replace(lag=Lag(), unsettled=True) if restarted else record

    before, records = state.records, tuple(sampled(record) for record in state.records)
    state = state._replace(history=history, records=records)
    if any(map(is_newly_refuted, before, records)):
        state = inherited(state)
    return _measure_all(state, rules)


def _measure(state: State, index: int, look: Look, rules: Rules) -> State:
    """Settle the lag of the replica that was checked, if this is possible."""
    record = state.records[index]
    seen = record.seen
    if seen is None or not seen.in_recovery:
        if record.checked_at is record.asked_at:
            return state
        measured = record._replace(checked_at=record.asked_at)
    elif record.failure is not None or not (look is Look.RECHECK or _is_settled(state, seen)):
        return state
    else:
        measured = _with_lag(state, record, seen, rules)
    return state._replace(records=_with(state.records, index, measured))


def _is_settled(state: State, seen: Observation) -> bool:
    return state.down_since is not None or is_conclusive(state.history, seen, RECHECK_OVER)


def _measure_all(state: State, rules: Rules) -> State:
    """After a new fact about the master: settle what waited for it, improve what was settled."""

    def measured(index: int, record: Record) -> Record:
        seen = record.seen
        if seen is None or not seen.in_recovery or record.failure is not None:
            if index == state.master and record.checked_at is not record.asked_at:
                return record._replace(checked_at=record.asked_at)
            return record
        if record.unsettled:
            return _with_lag(state, record, seen, rules) if _is_settled(state, seen) else record
        if not state.has_healthy_master:
            return _with_lag(state, record, seen, rules)
        return _sharpened(state, record, seen, rules)

    records = tuple(measured(index, record) for index, record in enumerate(state.records))
    return state._replace(records=records)


def _sharpened(state: State, record: Record, seen: Observation, rules: Rules) -> Record:
    """A lag that was settled before, if the new sample of the master proves a lower one."""
    seconds, size = record.lag.seconds, record.lag.size
    if seconds is not None and seconds <= RECHECK_OVER and size is not None:
        return record
    now = time_lag(state.history, seen)
    if now is not None and (seconds is None or now < seconds):
        seconds = now
    if size is None:
        size = byte_lag(_end(state), seen)
    if (seconds, size) == (record.lag.seconds, record.lag.size):
        return record
    lag = Lag(seconds, size, seconds)
    return record._replace(lag=lag, synced=_is_synced(record, seconds, rules))


def _end(state: State) -> int | None:
    """The position that byte lag refers to."""
    newest = state.history.newest
    if newest is None:
        return None
    return newest.lsn if state.has_healthy_master else state.history.end


def _with_lag(state: State, record: Record, seen: Observation, rules: Rules) -> Record:
    """The replica with its lag as measured by this check."""
    down = inf if state.down_since is None else state.down_since
    end = _end(state)
    seconds, before = time_lag(state.history, seen, down), record.lag.before_outage
    if state.has_healthy_master:
        before = seconds
    elif _is_sudden(state, rules) and seen.lsn is not None and end is not None and seen.lsn >= end:
        # It has replayed all that any host has received from the master, and it was that close
        # behind the master when both were last checked.
        seconds = min((s for s in (seconds, before) if s is not None), default=None)
    return record._replace(
        lag=Lag(seconds, byte_lag(end, seen), before),
        synced=_is_synced(record, seconds, rules),
        unsettled=False,
        checked_at=record.asked_at,
    )


def _is_synced(record: Record, seconds: float | None, rules: Rules) -> bool:
    """A replica that was in sync remains so for events until it is late by a whole interval.

    Less may only mean that it was checked at an unfavourable moment between two samples.
    """
    limit = rules.sync_max_lag_ms / 1000
    if seconds is None or seconds > limit + rules.sleep:
        return False
    return record.synced or seconds <= limit


def _is_sudden(state: State, rules: Rules) -> bool:
    """The master went down within one interval after it was last checked successfully."""
    newest = state.history.newest
    return (
        state.down_since is not None
        and newest is not None
        and state.down_since - newest.taken <= 1.5 * rules.sleep + 0.5
    )
