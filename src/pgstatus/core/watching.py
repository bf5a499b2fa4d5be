"""What a subscriber of a question, or of all hosts, is sent. Pure: a snapshot in, a state out.

A new event is sent when the ``key`` of the state changes. Source: docs/http-api.md, "/watch".
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from math import inf

from pgstatus.core.render import host_entry, selection, source_entries
from pgstatus.core.selection import Choice, Place, Question, choose, why_none
from pgstatus.core.snapshot import HostStatus, Snapshot
from pgstatus.core.view import without_sources

FRESH = 30.0
"""Seconds that a state may be used without another event, at most. It bounds how long a subscriber
that is cut off from pg-status uses its last state."""

_LIMITED = "no replica is within the limits; requests to the master are limited (fallback_per_s)"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is watched: a question, or all hosts if it is None."""

    question: Question | None = None
    with_figures: bool = False
    """All hosts: changed lag figures and errors are sent too."""
    every: float = 0.0
    """Seconds between two events with no more than changed figures."""


@dataclass(frozen=True, slots=True)
class State:
    """What is sent about a subject."""

    event: str
    """``answer`` or ``hosts``."""
    key: Hashable
    figures: Hashable
    """Changes with the figures, if they are sent; otherwise None."""
    payload: Mapping[str, object]


def state_of(
    subject: Subject, snapshot: Snapshot, now: float, place: Place, *, limits_fallback: bool
) -> State:
    """``limits_fallback``: ``fallback_per_s`` is configured. Each request to the master is counted
    then, so a subscriber does not get the master as a substitute for a replica.
    """
    if subject.question is None:
        return _hosts(subject, snapshot, now)
    return _answer(subject.question, snapshot, now, place, limits_fallback=limits_fallback)


def fresh_until(snapshot: Snapshot, now: float) -> float:
    """Until when a state of this snapshot may be used, on the snapshot's clock."""
    if snapshot.unusable(now) is not None:
        return now
    return min(snapshot.stale_after, now + FRESH)


def changes_at(snapshot: Snapshot, now: float) -> float:
    """When the states change although no other snapshot is published: it becomes too old."""
    return inf if snapshot.is_stale(now) else snapshot.stale_after


def _answer(
    question: Question, snapshot: Snapshot, now: float, place: Place, *, limits_fallback: bool
) -> State:
    choice, reason = Choice(), snapshot.unusable(now)
    if reason is None:
        choice = choose(snapshot, question, place)
        if choice.fell_back and limits_fallback:
            choice = choose(snapshot, question, place, use_master=False)
            reason = None if choice.hosts else _LIMITED
        elif not choice.hosts:
            reason = why_none(snapshot, question)
    key = tuple((s.host.address, s.role) for s in choice.hosts), choice.stale, reason
    hosts = [selection(status, None, stale=choice.stale) for status in choice.hosts]
    return State("answer", key, None, {"hosts": hosts, "reason": reason})


def _hosts(subject: Subject, snapshot: Snapshot, now: float) -> State:
    is_stale = snapshot.ready and snapshot.is_stale(now)
    master = None if snapshot.master is None else str(snapshot.master.host)
    entries = [host_entry(status) for status in snapshot.hosts]
    payload = {
        "ready": snapshot.ready,
        "stale": is_stale,
        "master": master,
        "no_master": snapshot.no_master,
        "upstreams": source_entries(snapshot),
        "hosts": entries,
    }
    key = (is_stale, condition(snapshot))
    figures = None
    if subject.with_figures:
        # Without the time of the check, which always changes.
        figures = (
            snapshot.no_master,
            snapshot.sources,
            tuple((s.lag_ms, s.lag_bytes, s.lsn, s.error, s.reason) for s in snapshot.hosts),
        )
    return State("hosts", key, figures, payload)


def condition(snapshot: Snapshot) -> Hashable:
    """What a snapshot contains besides figures, and besides the errors of a relay's sources: these
    may alternate with each attempt to connect.
    """
    return (
        snapshot.ready,
        snapshot.no_master and without_sources(snapshot.no_master, snapshot.sources),
        tuple((name, error is None) for name, error in snapshot.sources),
        tuple(_state_of_host(status) for status in snapshot.hosts),
    )


def _state_of_host(status: HostStatus) -> Hashable:
    """Role, health, sync state, membership and timeline."""
    return (
        status.host,
        status.role,
        status.master,
        status.alive,
        status.possible_dead,
        status.down,
        status.admits,
        status.excluded,
        status.same_history,
        status.sync_by_time,
        status.sync_by_bytes,
        status.timeline,
        status.upstream,
    )
