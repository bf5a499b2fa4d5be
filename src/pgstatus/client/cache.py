"""The previous answers, and which of them may be used again. ``now`` is an argument, in seconds of
`clock`, as is the time of an answer.

An answer is *fresh* for ``max_age``, and *usable* for ``stale_if_error`` if pg-status gives none.

A replica's answer also serves every ``min_lsn`` at or before its position, because replay only
moves forward. pg-status names replicas in turn, so such answers are kept for each host, and used in
turn: each for a few callers at first, and without limit as soon as every host in turn is known.
"""

import threading
from collections.abc import Callable
from typing import Any

from pgstatus.client.lsn import parse_lsn, parse_position
from pgstatus.client.model import ChosenHost
from pgstatus.client.request import Request

# A program uses a handful of different requests.
MAX_ENTRIES = 512
# How many callers an answer serves while it is not known which hosts are in turn.
USES = 3
# A replica that was named this long ago, in seconds, is probably still in turn.
RECENT_SECONDS = 1.0

_ANY_TIMELINE = 0
_Key = tuple[str, tuple[tuple[str, str], ...], int | None]
"""Path, parameters, and the timeline of positions; None for requests without ``min_lsn``."""


class _Entry:
    """An answer and the time before its request was sent."""

    __slots__ = ("at", "uses", "value")

    def __init__(self, value: Any, at: float) -> None:
        self.value = value
        self.at = at
        self.uses = 0

    def is_past(self, position: int) -> bool:
        """Whether it names a replica that has replayed this position."""
        lsn = _replayed(self.value)
        return lsn is not None and lsn >= position


class _Turn:
    """The latest answer of each host, the next to use first."""

    __slots__ = ("complete", "entries")

    def __init__(self) -> None:
        self.entries: dict[Any, _Entry] = {}
        self.complete = False

    def drop(self, is_wrong: Callable[[_Entry], bool]) -> None:
        """Remove entries."""
        kept = {host: entry for host, entry in self.entries.items() if not is_wrong(entry)}
        if len(kept) < len(self.entries):
            self.entries = kept


class AnswerCache:
    """The latest answers. All methods may be called by any thread."""

    def __init__(self, max_age: float, stale_if_error: float) -> None:
        self._max_age = max_age
        self._stale_if_error = max(stale_if_error, max_age)
        self._recent = max(RECENT_SECONDS, max_age)
        self._turns: dict[_Key, _Turn] = {}
        self._lock = threading.Lock()

    def forked(self) -> None:
        """This is a forked child: another thread of the parent may hold the lock."""
        self._lock = threading.Lock()

    def fresh(self, request: Request, now: float) -> Any | None:
        """An answer that may be used without a request."""
        with self._lock:
            entry = self._find(request, now - self._max_age, limited=True)
        return None if entry is None else entry.value

    def usable(self, request: Request, now: float) -> Any | None:
        """An answer that may be used while pg-status gives none."""
        with self._lock:
            entry = self._find(request, now - self._stale_if_error, limited=False)
        return None if entry is None else entry.value

    def usable_since(self, request: Request, now: float) -> float | None:
        """When pg-status gave such an answer, None: there is none. Its turn does not pass."""
        with self._lock:
            entry = self._find(request, now - self._stale_if_error, limited=False, use=False)
        return None if entry is None else entry.at

    def store(self, request: Request, answer: Any, asked_at: float) -> None:
        """Keep an answer. ``asked_at`` is the time before its request was sent."""
        entry = _Entry(answer, asked_at)
        with self._lock:
            if request.min_lsn is None:
                turn = self._turn(request, None)
                previous = turn.entries.get(None)
                # A notification may have arrived after the request was sent.
                if previous is None or previous.at <= asked_at:
                    turn.entries = {None: entry}
                return
            timeline, position = parse_position(request.min_lsn)
            if not entry.is_past(position):
                # The master, because no replica has replayed so far: a replica soon will have.
                return
            turn = self._turn(request, timeline or _ANY_TIMELINE)
            host = (answer.host, answer.port)
            previous = turn.entries.pop(host, None)
            recent = {
                other: entry
                for other, entry in turn.entries.items()
                if entry.at > asked_at - self._recent
            }
            # pg-status named a host again, and all the others: the turn has come round.
            turn.complete = (
                previous is not None
                and all(each.is_past(position) for each in (previous, *recent.values()))
                and min(each.at for each in (previous, *recent.values())) > asked_at - self._max_age
            )
            turn.entries = {**recent, host: entry}

    def forget(self, request: Request, asked_at: float) -> None:
        """pg-status withdrew the answer: drop it, and the answers that follow from it.

        Later answers than this one are kept: a notification may have arrived in the meantime.
        """
        path, params, min_lsn, _ = request
        with self._lock:
            if min_lsn is None:
                keys = [key for key in self._turns if key[:2] == (path, params)]
            else:
                keys = [
                    key for key in _keys(request, parse_position(min_lsn)[0]) if key in self._turns
                ]
            for key in keys:
                self._turns[key].drop(lambda entry: entry.at <= asked_at)
            if path == "/master":
                # Where no replica matched, the answer was the master, too.
                for turn in self._turns.values():
                    turn.drop(lambda entry: entry.at <= asked_at and _is_master(entry))

    def _turn(self, request: Request, timeline: int | None) -> _Turn:
        key = (request.path, request.params, timeline)
        # The most recently stored answers are the last to be dropped.
        turn = self._turns.pop(key, None) or _Turn()
        self._turns[key] = turn
        if len(self._turns) > MAX_ENTRIES:
            del self._turns[next(iter(self._turns))]
        return turn

    def _find(
        self, request: Request, since: float, *, limited: bool, use: bool = True
    ) -> _Entry | None:
        if request.min_lsn is None:
            turn = self._turns.get((request.path, request.params, None))
            entry = turn.entries.get(None) if turn else None
            return entry if entry and entry.at > since else None
        timeline, position = parse_position(request.min_lsn)
        for key in _keys(request, timeline):
            turn = self._turns.get(key)
            if turn is None:
                continue
            for host, entry in turn.entries.items():
                if entry.at <= since or not entry.is_past(position):
                    continue
                if limited and not turn.complete and entry.uses >= USES:
                    continue
                if use:
                    entry.uses += 1
                    turn.entries[host] = turn.entries.pop(host)
                return entry
        return None


def _keys(request: Request, timeline: int | None) -> list[_Key]:
    """Where an answer to a request with a position may be kept."""
    path, params, _, _ = request
    keys: list[_Key] = [(path, params, timeline or _ANY_TIMELINE)]
    if timeline is None:
        # The timeline of an answer is not known, so an answer to a request without a position can
        # serve only a position without a timeline.
        keys.append((path, params, None))
    return keys


def _is_master(entry: _Entry) -> bool:
    return isinstance(entry.value, ChosenHost) and entry.value.role == "master"


def _replayed(answer: Any) -> int | None:
    """The position that a replica has replayed."""
    if not isinstance(answer, ChosenHost) or answer.role != "replica" or answer.lsn is None:
        return None
    try:
        return parse_lsn(answer.lsn)
    except (ValueError, TypeError):
        return None
