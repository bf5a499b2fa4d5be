"""Changes that belong together, as one line of the history: a failover has one line. Pure.

A failover begins with the first sign of trouble with the former master, and ends a few seconds
after the new master was noticed, when the replicas have followed. All other changes stand alone;
those of one host at the same moment are one line.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from pgstatus.core.changes import Change
from pgstatus.core.units import duration
from pgstatus.telemetry.history import Entry

_AFTER = timedelta(seconds=5)
"""Changes so soon after a new master belong to it."""
_BETWEEN = timedelta(seconds=10)
"""Signs before a new master that are further apart have different causes."""

FAILOVER = "failover"


@dataclass(frozen=True, slots=True)
class Incident:
    """One line of the history."""

    change: str
    """A `Change`, or `FAILOVER`."""
    text: str
    entries: tuple[Entry, ...]
    """At least one, oldest first."""

    @property
    def at(self) -> datetime:
        return self.entries[0].at

    @property
    def host(self) -> str | None:
        return self.entries[0].event.host

    @property
    def level(self) -> int:
        return max(entry.event.level for entry in self.entries)


def incidents(entries: Sequence[Entry]) -> tuple[Incident, ...]:
    """The lines for these changes; both are in chronological order."""
    found: list[Incident] = []
    begin = 0
    for index, entry in enumerate(entries):
        if index < begin or not _is_master(entry) or not _is_last_of_loss(entries, index):
            continue
        first = _first_sign(entries, begin, index)
        end = _end(entries, index)
        found += _single(entries[begin:first])
        found.append(_of_master(entry, entries[first:end]))
        begin = end
    return (*found, *_single(entries[begin:]))


def _is_master(entry: Entry) -> bool:
    return entry.event.change is Change.MASTER


def _is_last_of_loss(entries: Sequence[Entry], index: int) -> bool:
    """It is a new master, or there is none up to now."""
    return entries[index].event.host is not None or not any(map(_is_master, entries[index + 1 :]))


def _first_sign(entries: Sequence[Entry], begin: int, index: int) -> int:
    """The first change, not before ``begin``, that belongs to the new master at ``index``."""
    former = entries[index].former
    first = index
    for other in range(index - 1, begin - 1, -1):
        entry = entries[other]
        is_lost = _is_master(entry) and entry.event.host is None
        is_recent = entries[first].at - entry.at <= _BETWEEN
        is_sign = former is None or (
            entry.event.host == former and entry.event.level >= logging.WARNING
        )
        if is_lost or (is_recent and is_sign):
            first = other
    return first


def _end(entries: Sequence[Entry], index: int) -> int:
    """The index after the last change that belongs to the new master at ``index``."""
    new = entries[index]
    if new.event.host is None:
        return len(entries)
    for other in range(index + 1, len(entries)):
        entry = entries[other]
        is_new_trouble = _is_master(entry) or (
            entry.event.host == new.event.host and entry.event.level >= logging.WARNING
        )
        if entry.at - new.at > _AFTER or is_new_trouble:
            return other
    return len(entries)


def _of_master(new: Entry, entries: Sequence[Entry]) -> Incident:
    event, former = new.event, new.former
    took = new.at - entries[0].at
    if event.host is None or former is None:
        return Incident(event.change, event.text, tuple(entries))
    if event.host == former:
        text = f"{former} is the master again after {duration(took.total_seconds())}"
    else:
        within = f" in {duration(took.total_seconds())}" if took else ""
        text = f"failover from {former} to {event.host}{within} (timeline {event.timeline})"
    if any(entry.event.change is Change.SPLIT_BRAIN for entry in entries):
        text += ", with a split brain"
    return Incident(FAILOVER, text, tuple(entries))


def _single(entries: Sequence[Entry]) -> Iterator[Incident]:
    """One line for each moment, host and kind."""

    def key(entry: Entry) -> object:
        return entry.at, entry.event.host, entry.event.change

    for _, group in groupby(entries, key):
        together = tuple(group)
        texts = (entry.event.text for entry in together)
        yield Incident(together[0].event.change, "; ".join(texts), together)
