"""Answers that are made once and given many times: what is kept, and for how long it is right.

The API stays the only place that defines an answer; with a `Note` it tells the worker which
answers depend on the request and the snapshot alone, and `ResponseCache` keeps those by the
exact bytes of their request until the next snapshot.
"""

import time
from collections.abc import Callable, Iterator
from email.utils import formatdate

from pgstatus.core.note import Note
from pgstatus.core.snapshot import Snapshot
from pgstatus.telemetry.counters import Tally

# Of requests and their answers together. Real clients ask a few dozen different requests of some
# 100 bytes; whoever asks a million different ones gets no more memory than this.
_MAX_BYTES = 2**20
# What an entry takes beside its bytes.
_OVERHEAD = 500
_DATE = b"\r\nDate: "
_DATE_LENGTH = len("Thu, 01 Jan 1970 00:00:00 GMT")


class Answer:
    """The bytes of a whole HTTP answer, dated afresh once a second; whoever gives it counts it."""

    __slots__ = ("_after", "_before", "close", "data", "date", "tally")

    def __init__(self, data: bytes, tally: Tally, *, close: bool) -> None:
        at = data.find(_DATE) + len(_DATE)
        self._before = data[:at]
        self._after = data[at + _DATE_LENGTH :]
        self.data = data
        self.date = data[at : at + _DATE_LENGTH]
        self.close = close
        """The connection ends with this answer."""
        self.tally = tally

    def redate(self, date: bytes) -> None:
        """Say that it is made now."""
        self.date = date
        self.data = b"".join((self._before, date, self._after))


class _Entry:
    """The answers to one request, as many as there are equally good hosts to name."""

    __slots__ = ("answers", "due", "turn")

    def __init__(self, turn: Iterator[int] | None, choices: int) -> None:
        self.turn = turn if choices > 1 else None
        self.due: int | None = None
        """The answer whose turn it is, as long as it is missing."""
        self.answers: list[Answer | None] = [None] * choices


class ResponseCache:
    """Answers by request, for one snapshot. For one thread.

    ``read`` returns the newest snapshot; ``now`` is always a moment on its clock. What strangers
    are told is kept in a memo of their own: the same bytes, another answer.
    """

    def __init__(self, read: Callable[[], Snapshot], now: float, *, stranger: bool = False) -> None:
        self._read = read
        self.stranger = stranger
        self._snapshot = read()
        self._stale = False
        self._entries: dict[bytes, _Entry] = {}
        self._size = 0
        self._date = b""
        self._renew_at = now

    def find(self, request: bytes, now: float) -> Answer | None:
        """The answer to these very bytes; None where it has yet to be made.

        What is kept are whole requests without anything behind them, so no other bytes match.
        """
        if now >= self._renew_at or self._read() is not self._snapshot:
            self._renew(now)
        entry = self._entries.get(request)
        if entry is None:
            return None
        if entry.turn is None:
            answer = entry.answers[0]
        else:
            if entry.due is None:
                entry.due = next(entry.turn) % len(entry.answers)
            answer = entry.answers[entry.due]
        if answer is not None:
            entry.due = None
            if answer.date is not self._date:
                answer.redate(self._date)
        return answer

    def note(self, request: bytes) -> Note:
        """To be handed to the API, and then to `keep`, when `find` found nothing."""
        entry = self._entries.get(request)
        wanted = None if entry is None else entry.due
        return Note(may_wait=False, wanted=wanted, stranger=self.stranger)

    def keep(self, request: bytes, answer: bytes, note: Note, tally: Tally, *, close: bool) -> None:
        """Keep the answer that was just made, if it may be given again."""
        # Whatever the answer was made from was read between `find` and now.
        if not note.replayable or self._read() is not self._snapshot:
            return
        self._size += len(request) + len(answer) + _OVERHEAD
        if self._size > _MAX_BYTES:
            self.forget()
            self._size = len(request) + len(answer) + _OVERHEAD
        entry = self._entries.get(request)
        if entry is None:
            entry = self._entries[request] = _Entry(note.turn, note.choices)
        entry.answers[note.index] = Answer(answer, tally, close=close)
        entry.due = None

    def _renew(self, now: float) -> None:
        """The second has changed, the snapshot has, or it has become too old to be served."""
        snapshot = self._read()
        stale = snapshot.is_stale(now)
        if snapshot is not self._snapshot or stale is not self._stale:
            self._snapshot, self._stale = snapshot, stale
            self.forget()
        seconds = time.time()
        self._date = formatdate(seconds, usegmt=True).encode()
        self._renew_at = now + 1 - seconds % 1
        if not stale:
            self._renew_at = min(self._renew_at, snapshot.stale_after)

    def forget(self) -> None:
        """Drop all that is kept."""
        self._entries.clear()
        self._size = 0
