"""Which past answer may be used again; pure, ``now`` is an argument in monotonic seconds.

An answer is *fresh* for ``max_age``, and *usable* when pg-status is away until it is
``stale_if_error`` old. A replica's answer serves every ``min_lsn`` at or before its position:
replay only goes forward.
"""

from typing import Any, NamedTuple, TypeVar

from pgstatus.client.errors import (
    DeadlineError,
    NoHostError,
    NotReadyError,
    SplitBrainError,
    UnreachableError,
)
from pgstatus.client.lsn import parse_lsn, parse_position
from pgstatus.client.model import ChosenHost
from pgstatus.client.wire import Question

AWAY = (UnreachableError, DeadlineError, NotReadyError)
"""pg-status gave no answer: an old one is better than none."""
NOBODY = (NoHostError, SplitBrainError)
"""pg-status took its last answer back."""
RETRY_SECONDS = 0.5
"""While pg-status is away it is asked again this often."""

# Questions differ by path and limits, which a program has a handful of.
MAX_ENTRIES = 512


T = TypeVar("T")


class _Entry(NamedTuple):
    value: Any
    at: float


class Answers:
    """The last answer to each question, ages in seconds."""

    def __init__(self, max_age: float, stale_if_error: float) -> None:
        self._max_age = max_age
        self._stale_if_error = stale_if_error
        self._entries: dict[Question[Any], _Entry] = {}

    def fresh(self, asked: Question[T], now: float) -> T | None:
        """An answer that may be used without asking."""
        return self._find(asked, now - self._max_age)

    def usable(self, asked: Question[T], now: float) -> T | None:
        """An answer that is better than none."""
        return self._find(asked, now - max(self._stale_if_error, self._max_age))

    def store(self, asked: Question[T], value: T, now: float) -> None:
        """Remember an answer that was asked for at ``now``, the time before the request."""
        if asked.min_lsn is not None:
            timeline, position = parse_position(asked.min_lsn)
            if not (isinstance(value, ChosenHost) and _is_past(value, position)):
                # The master, as no replica was there yet: true then, soon not true any more.
                return
            asked = _past(asked, timeline)
        self._entries.pop(asked, None)
        self._entries[asked] = _Entry(value, now)
        if len(self._entries) > MAX_ENTRIES:
            del self._entries[next(iter(self._entries))]

    def forget(self, asked: Question[Any]) -> None:
        """The answer is not true any more, whoever is away next."""
        for key in _keys(asked):
            self._entries.pop(key, None)

    def _find(self, asked: Question[T], since: float) -> T | None:
        value: T | None
        if asked.min_lsn is None:
            entry = self._entries.get(asked)
            value = entry.value if entry is not None and entry.at > since else None
            return value
        _, position = parse_position(asked.min_lsn)
        entries = map(self._entries.get, _keys(asked))
        value = next(
            (
                entry.value
                for entry in entries
                if entry is not None and entry.at > since and _is_past(entry.value, position)
            ),
            None,
        )
        return value


def _keys(asked: Question[T]) -> list[Question[T]]:
    """Where an answer to it may be kept."""
    if asked.min_lsn is None:
        return [asked]
    timeline, _ = parse_position(asked.min_lsn)
    keys = [_past(asked, timeline)]
    if timeline is None:
        # An answer without a position will do if it is past this one; but which timeline it is on,
        # an answer does not say.
        keys.append(asked._replace(min_lsn=None, wait_ms=None))
    return keys


def _past(asked: Question[T], timeline: int | None) -> Question[T]:
    """The one key for all positions on a timeline."""
    return asked._replace(min_lsn=f"{timeline}:", wait_ms=None)


def _is_past(chosen: ChosenHost, position: int) -> bool:
    return chosen.role == "replica" and chosen.lsn is not None and parse_lsn(chosen.lsn) >= position
