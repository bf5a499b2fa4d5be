"""How far a client has written, so that its next read is not older than that.

A position counts on its timeline only: after a failover the new master goes on from an earlier one,
and a replica left on the old timeline can be past the number without having the row.
"""

import time
from contextvars import ContextVar
from dataclasses import dataclass
from weakref import WeakSet

from sqlalchemy.orm import Session

from pgstatus.client import parse_lsn


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A replica that follows ``timeline`` and has replayed ``lsn`` has all that was written.

    Until ``pinned_until`` (Unix seconds) that is not known and only the master will do: a write's
    position could not be had, or could not be told to the client in time.
    """

    timeline: int = 0
    lsn: str = "0/0"
    pinned_until: float = 0.0

    def merged(self, other: "Bookmark") -> "Bookmark":
        """The bookmark that covers both."""
        last = max(self, other, key=lambda mark: (mark.timeline, parse_lsn(mark.lsn)))
        return Bookmark(last.timeline, last.lsn, max(self.pinned_until, other.pinned_until))

    def position(self) -> str:
        """As ``min_lsn`` takes it; without the timeline where nothing is known to be written."""
        return f"{self.timeline}:{self.lsn}" if self.timeline else self.lsn

    def is_pinned(self) -> bool:
        """Whether reads belong on the master, whatever the replicas have replayed."""
        return self.pinned_until > time.time()


class Notes:
    """The bookmarks of one request by the name of their cluster: brought along, and made in it."""

    def __init__(self, brought: dict[str, Bookmark], pin_seconds: float) -> None:
        self.marks = dict(brought)
        self.wrote = False
        self._pin_seconds = pin_seconds
        self._sessions: dict[str, WeakSet[Session]] = {}

    def note(self, cluster: str, written: Bookmark) -> None:
        """A transaction was committed and is covered by ``written``."""
        self.marks[cluster] = self.marks.get(cluster, Bookmark()).merged(written)
        self.wrote = True

    def pin(self, cluster: str) -> None:
        """Something was or may be written, at a position that is not known."""
        self.note(cluster, Bookmark(pinned_until=time.time() + self._pin_seconds))

    def watch(self, cluster: str, session: Session) -> None:
        """``session`` has begun a transaction that may write."""
        self._sessions.setdefault(cluster, WeakSet()).add(session)

    def pin_unfinished(self) -> None:
        """The answer's headers go now: a transaction still open can only be covered by a pin."""
        for cluster, sessions in self._sessions.items():
            if any(session.in_transaction() for session in sessions):
                self.pin(cluster)


current_notes: ContextVar[Notes | None] = ContextVar("pgstatus_notes", default=None)
