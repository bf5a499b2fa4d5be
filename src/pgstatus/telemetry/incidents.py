"""Changes that belong together, as one line of the history: a failover has one line. Pure.

A failover begins with the first sign of trouble with the former master, and ends a few seconds
after the new master was noticed, when the replicas have followed, and for the former master some
time later. So does an interruption, after which the same host is the master. The end of an
interruption of the checks belongs to its beginning. All other changes stand alone; those of one
host at the same moment are one line.
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
_FORMER_AFTER = timedelta(seconds=60)
"""Changes of the former master so soon after it belong to it, too: its death, its return."""
_BETWEEN = timedelta(seconds=10)
"""Signs before a new master that are further apart have different causes."""

FAILOVER = "failover"
INTERRUPTION = "interruption"
"""Of the master, which is the same host before and after."""


@dataclass(frozen=True, slots=True)
class Incident:
    """One line of the history."""

    change: str
    """A `Change`, `FAILOVER` or `INTERRUPTION`."""
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
    # An interruption of the checks is part of no failover.
    found = _interruptions([entry for entry in entries if entry.event.change is Change.READY])
    rest: Sequence[Entry] = [entry for entry in entries if entry.event.change is not Change.READY]
    while (index := _next_master(rest)) is not None:
        first = _first_sign(rest, index)
        found += _single(rest[:first])
        new = rest[index]
        together, rest = _split(rest[first:], index - first)
        found.append(_of_master(new, together))
    return tuple(sorted([*found, *_single(rest)], key=lambda incident: incident.at))


def _next_master(entries: Sequence[Entry]) -> int | None:
    """The first new master; without one, the last loss of the master."""
    indexes = [index for index, entry in enumerate(entries) if _is_master(entry)]
    return next(
        (i for i in indexes if entries[i].event.host is not None), max(indexes, default=None)
    )


def _is_master(entry: Entry) -> bool:
    return entry.event.change is Change.MASTER


def _first_sign(entries: Sequence[Entry], index: int) -> int:
    """The first change that belongs to the new master at ``index``."""
    former = entries[index].former
    first = index
    for other in range(index - 1, -1, -1):
        entry = entries[other]
        is_recent = entries[first].at - entry.at <= _BETWEEN
        is_sign = former is None or (
            entry.event.host == former and entry.event.level >= logging.WARNING
        )
        if _is_master(entry) or (is_recent and is_sign):
            first = other
    return first


def _split(entries: Sequence[Entry], index: int) -> tuple[Sequence[Entry], Sequence[Entry]]:
    """The changes that belong to the new master at ``index``, and all others, which follow it."""
    new = entries[index]
    if new.event.host is None:
        return entries, ()
    together: list[Entry] = list(entries[: index + 1])
    others: list[Entry] = []
    for position, entry in enumerate(entries[index + 1 :], index + 1):
        host, age = entry.event.host, entry.at - new.at
        if _is_master(entry) or (host == new.event.host and entry.event.level >= logging.WARNING):
            return together, [*others, *entries[position:]]
        is_of_former = host is not None and host == new.former and age <= _FORMER_AFTER
        (together if age <= _AFTER or is_of_former else others).append(entry)
    return together, others


def _of_master(new: Entry, entries: Sequence[Entry]) -> Incident:
    event, former = new.event, new.former
    took = new.at - entries[0].at
    within = duration(took.total_seconds()) if took else None
    if event.host is None or former is None or (event.host == former and within is None):
        return Incident(event.change, event.text, tuple(entries))
    if event.host == former:
        change, text = INTERRUPTION, f"{former} is the master again after {within}"
    else:
        change, text = FAILOVER, f"failover from {former} to {event.host}"
        text += f" in {within}" if within else ""
        text += f" (timeline {event.timeline})"
    if any(entry.event.change is Change.SPLIT_BRAIN for entry in entries):
        text += ", with a split brain"
    return Incident(change, text, tuple(entries))


def _interruptions(entries: Sequence[Entry]) -> list[Incident]:
    """One line for each interruption of the checks. It begins with a warning."""
    interruptions: list[list[Entry]] = []
    for entry in entries:
        if not interruptions or entry.event.level >= logging.WARNING:
            interruptions.append([])
        interruptions[-1].append(entry)
    # The end is described with the duration.
    return [Incident(Change.READY, one[-1].event.text, tuple(one)) for one in interruptions]


def _single(entries: Sequence[Entry]) -> Iterator[Incident]:
    """One line for each moment, host and kind."""
    for _, group in groupby(
        entries, lambda entry: (entry.at, entry.event.host, entry.event.change)
    ):
        together = tuple(group)
        texts = (entry.event.text for entry in together)
        yield Incident(together[0].event.change, "; ".join(texts), together)
