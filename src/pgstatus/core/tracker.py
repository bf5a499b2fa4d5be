"""What the result of a check means for what we know. Pure: state in, state out.

* A good check makes a host alive and healthy, whatever it was.
* A failed check makes a host that was alive *possibly dead*: what was last known of it still
  counts, but anything healthy is preferred. ``max_fails`` failures in a row make it dead. Failures
  in quick succession (the fast schedule of a failover) count once per ``sleep``, so that the time
  that a host is given does not depend on how often it was asked.
* A check of a replica that is overdue makes it possibly dead until it ends.
* A good check that contradicts what was known (another role, timeline or cluster) replaces it;
  `election` then says who the master is.
* A replica that looks late was perhaps only asked in a bad moment. Its lag stays as it was until
  it was looked at again, or until the master's check of the same round has come in. A glance
  between two rounds (somebody waits for its position) says nothing bad of its lag at all: the
  master was not asked with it.
* Evidence that is older than ``max_staleness`` is forgotten: the host is unknown until it answers.
  Where nothing is left (this process was frozen, say), everybody has to be asked as at the start:
  the first to answer may be a master that was replaced meanwhile.
"""

from dataclasses import replace
from datetime import datetime
from math import inf

from pgstatus.core.election import cluster_identifier
from pgstatus.core.lag import WalHistory, byte_lag, is_conclusive, time_lag
from pgstatus.core.snapshot import Failure, Observation
from pgstatus.core.state import Lag, Look, Record, Rules, State, hold_election, is_foreign
from pgstatus.errors import Cause

# A lag below this is told without a second look, seconds. Checks of one round are this far apart
# at the most on a network that is in order.
LOOK_AGAIN_OVER = 0.1


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
    # What it says was true at the earliest then: an answer may have waited for us to wake up.
    record = replace(before, checked=result.started, asked_at=checked_at)
    if isinstance(result, Observation):
        record = _succeeded(record, result, look)
    else:
        record = _failed(record, result, rules)
    records = (*state.records[:index], record, *state.records[index + 1 :])
    ready = state.ready or all(record.checked is not None for record in records)
    state = _decide(replace(state, records=records), rules, ready=ready)
    if state.master == index and isinstance(result, Observation):
        return _sharpen(_measure(replace(state, history=state.history.add(result)), index, look))
    return _measure(state, index, look)


def suspect(state: State, index: int, asked: float, now: float) -> State:
    """The state while replica ``index`` has not answered the check that began at ``asked``.

    As after a failed check, but nothing is counted: the check may still succeed. A master stays
    what it is, because nothing is there to be preferred, and lags are measured by it.
    """
    record = state.records[index]
    if record.seen is None or not record.seen.in_recovery or record.failure is not None:
        return state
    failure = Failure(Cause.TIMEOUT, f"no answer yet after {now - asked:.1f} s", asked, now)
    record = replace(record, failure=failure)
    return replace(state, records=(*state.records[:index], record, *state.records[index + 1 :]))


def expire(state: State, now: float, rules: Rules) -> State:
    """The state without what is too old to be believed."""
    records = tuple(_without_what_is_old(record, now, rules) for record in state.records)
    if records == state.records:
        return state
    ready = state.ready and any(record.checked is not None for record in records)
    recalled = state.recalled or (state.ready and not ready)
    return _decide(replace(state, records=records, recalled=recalled), rules, ready=ready)


def is_too_old(started: float, now: float, rules: Rules) -> bool:
    """What a check that began at ``started`` says is not to be believed any more."""
    return rules.max_staleness > 0 and now - started > rules.max_staleness


def _without_what_is_old(record: Record, now: float, rules: Rules) -> Record:
    if record.checked is not None and is_too_old(record.checked, now, rules):
        return Record(system_identifier=record.system_identifier, checked_at=record.checked_at)
    if record.seen is not None and is_too_old(record.seen.started, now, rules):
        return replace(record, seen=None, lag=Lag(), unsettled=False)
    return record


def _succeeded(before: Record, seen: Observation, look: Look) -> Record:
    known = before.seen
    if known is not None and known.in_recovery and seen.in_recovery and not seen.receiving:
        # A replica without a receiver knows its timeline only as of its last restart point, which
        # can be older than what it was seen to receive; a data directory never goes back.
        timelines = [t for t in (known.timeline, seen.timeline) if t is not None]
        seen = replace(seen, timeline=max(timelines, default=None))
    same_role = known is not None and known.in_recovery == seen.in_recovery
    return replace(
        before,
        seen=seen,
        fails=0,
        counted=-inf,
        failure=None,
        lag=before.lag if same_role else Lag(),
        unsettled=seen.in_recovery
        and (look is Look.ROUND or (look is Look.POSITION and before.unsettled)),
        system_identifier=seen.system_identifier or before.system_identifier,
    )


def _failed(before: Record, failure: Failure, rules: Rules) -> Record:
    # A round that a busy loop begins a moment early is still the next round.
    counts = failure.started - before.counted >= 0.98 * rules.sleep
    fails = before.fails + counts
    dead = fails >= rules.max_fails
    return replace(
        before,
        seen=None if dead else before.seen,
        fails=fails,
        counted=failure.started if counts else before.counted,
        failure=failure,
        lag=Lag() if dead else before.lag,
        unsettled=False,
    )


def _decide(state: State, rules: Rules, *, ready: bool) -> State:
    """Which cluster this is, which timeline is its newest, who is its master."""
    before, identifier = state.system_identifier, _cluster_identifier(state)
    if before is None:
        # It can be read only now; that it is another one nobody has said.
        state = replace(state, system_identifier=identifier)
    elif identifier != before:
        # Another cluster altogether: its timelines and positions have nothing to do with these.
        state = replace(
            state,
            system_identifier=identifier,
            newest_timeline=None,
            witnesses=frozenset(),
            history=WalHistory(),
        )
    state = _newest_timeline(state)
    winner = hold_election(state, rules).winner
    # Whoever answers first at the start has no claim to stay.
    incumbent = winner if ready else state.incumbent
    return replace(state, master=winner, incumbent=incumbent, ready=ready)


def _cluster_identifier(state: State) -> int | None:
    is_certain = state.recalled and state.system_identifier is not None
    if is_certain and any(record.checked is None for record in state.records):
        return state.system_identifier
    return cluster_identifier(
        [record.system_identifier for record in state.records],
        # Before everybody was asked once, the one who answered first has no claim.
        state.system_identifier if state.ready or state.recalled else None,
    )


def _newest_timeline(state: State) -> State:
    """The newest timeline that a host has shown, be it that it writes it or that it receives it.

    It stays the newest while those who have shown it are dead: they may come back. It is forgotten
    when all of them have been rebuilt on an older one: the promotion was undone.
    """
    shown = {
        str(host): record.seen.timeline
        for host, record in zip(state.hosts, state.records, strict=True)
        if record.seen is not None
        and record.seen.timeline is not None
        and not is_foreign(state, record)
    }
    newest = state.newest_timeline
    present = state.witnesses & {str(host) for host in state.hosts}
    if newest is not None and present and all(shown.get(w, newest) < newest for w in present):
        newest = None
    newest = max([*shown.values(), *([] if newest is None else [newest])], default=None)
    known = state.witnesses if newest == state.newest_timeline else frozenset()
    witnesses = known | {name for name, timeline in shown.items() if timeline == newest}
    return replace(state, newest_timeline=newest, witnesses=witnesses)


def _measure(state: State, checked: int, look: Look) -> State:
    """Settle the lag of the host just checked and of those that waited, where it can be."""

    def measured(index: int, record: Record) -> Record:
        seen = record.seen
        if seen is None or not seen.in_recovery or record.failure is not None:
            return replace(record, checked_at=record.asked_at)
        if not (record.unsettled or index == checked):
            return record
        final = index == checked and look is Look.RECHECK
        if not final and not is_conclusive(state.history, seen, LOOK_AGAIN_OVER):
            return record
        lag = Lag(time_lag(state.history, seen), byte_lag(state.history, seen))
        return replace(record, lag=lag, unsettled=False, checked_at=record.asked_at)

    records = tuple(measured(index, record) for index, record in enumerate(state.records))
    return replace(state, records=records)


def _sharpen(state: State) -> State:
    """After a new sample of the master: what was settled before it may be better than it looked."""

    def sharpened(record: Record) -> Record:
        seen = record.seen
        if seen is None or not seen.in_recovery or record.unsettled:
            return record
        lag = record.lag
        seconds = time_lag(state.history, seen)
        if seconds is not None and (lag.seconds is None or seconds < lag.seconds):
            lag = replace(lag, seconds=seconds)
        if lag.size is None:
            lag = replace(lag, size=byte_lag(state.history, seen))
        return replace(record, lag=lag)

    return replace(state, records=tuple(sharpened(record) for record in state.records))
