"""Limits how often changes are reported. Pure: the time is an argument.

Each kind of change of each host may be reported a few times at once and then once per minute, and
all hosts together a few times more. What exceeds this is counted, and summarised once per minute
with the state that resulted from it. Changes of the master are limited on their own, so that other
changes never suppress them.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pgstatus.core.changes import Change, Event

PERIOD = 60.0
"""Seconds after which suppressed changes are summarised."""

_OF_THE_CLUSTER = {Change.MASTER, Change.SPLIT_BRAIN}
_NAMED = 3

Key = tuple[Change | None, str | None]
_ALL: Key = (None, None)


@dataclass(frozen=True, slots=True)
class _Limit:
    """``burst`` reports at once, then ``per_period`` per period."""

    burst: float
    per_period: float


_PER_HOST = _Limit(4, 1)
_PER_CLUSTER = _Limit(6, 2)
# A failover of three hosts is about ten changes.
_ALTOGETHER = _Limit(20, 4)


@dataclass(frozen=True, slots=True)
class _Tokens:
    left: float
    at: float


@dataclass(frozen=True, slots=True)
class _Suppressed:
    count: int
    last: Event


@dataclass(frozen=True, slots=True)
class Damper:
    """What was reported and what was suppressed so far."""

    tokens: Mapping[Key, _Tokens] = field(default_factory=dict)
    suppressed: Mapping[Key, _Suppressed] = field(default_factory=dict)
    since: float | None = None
    """When the first of the suppressed changes occurred."""

    @property
    def due(self) -> float | None:
        """When a summary is due; None: nothing is suppressed."""
        return None if self.since is None else self.since + PERIOD


def damp(damper: Damper, events: Iterable[Event], now: float) -> tuple[Damper, tuple[Event, ...]]:
    """What to report of ``events`` now, preceded by a summary if it is due.

    To be called for every change, and without events at least when a summary is due.
    """
    reported: list[Event] = []
    tokens, suppressed, since = dict(damper.tokens), dict(damper.suppressed), damper.since
    if since is not None and now >= since + PERIOD:
        reported += _summaries(suppressed, now - since)
        suppressed, since = {}, None
        tokens = {key: kept for key, kept in tokens.items() if not _is_full(key, kept, now)}
    for event in events:
        key = _key(event)
        keys = [key] if event.change in _OF_THE_CLUSTER else [key, _ALL]
        filled = {k: _fill(k, tokens.get(k), now) for k in keys}
        if all(kept.left >= 1 for kept in filled.values()):
            tokens |= {k: _Tokens(kept.left - 1, now) for k, kept in filled.items()}
            reported.append(event)
        else:
            before = suppressed.get(key)
            suppressed[key] = _Suppressed(1 if before is None else before.count + 1, event)
            since = now if since is None else since
    return Damper(tokens, suppressed, since), tuple(reported)


def _key(event: Event) -> Key:
    return event.change, None if event.change in _OF_THE_CLUSTER else event.host


def _limit(key: Key) -> _Limit:
    if key == _ALL:
        return _ALTOGETHER
    return _PER_CLUSTER if key[0] in _OF_THE_CLUSTER else _PER_HOST


def _fill(key: Key, tokens: _Tokens | None, now: float) -> _Tokens:
    limit = _limit(key)
    if tokens is None:
        return _Tokens(limit.burst, now)
    gained = max(0.0, now - tokens.at) * limit.per_period / PERIOD
    return _Tokens(min(limit.burst, tokens.left + gained), max(now, tokens.at))


def _is_full(key: Key, tokens: _Tokens, now: float) -> bool:
    return _fill(key, tokens, now).left >= _limit(key).burst


def _summaries(suppressed: Mapping[Key, _Suppressed], seconds: float) -> list[Event]:
    """One event per kind of change."""
    summaries = []
    for change in Change:
        entries = [entry for key, entry in suppressed.items() if key[0] is change]
        if not entries:
            continue
        count = sum(entry.count for entry in entries)
        texts = "; ".join(entry.last.text for entry in entries[:_NAMED])
        others = f"; and {len(entries) - _NAMED} other hosts" if len(entries) > _NAMED else ""
        level = max((entry.last.level for entry in entries), default=logging.INFO)
        plural = "s" if count > 1 else ""
        text = f"{count} more change{plural} ({change}) in {seconds:.0f} s, now: {texts}{others}"
        host = entries[0].last.host if len(entries) == 1 else None
        summaries.append(Event(change, host, text, level))
    return summaries
