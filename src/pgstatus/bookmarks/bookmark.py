"""The position up to which a client has written, so that its next read is not older.

A position is valid on its timeline only: after a failover the new master continues from an earlier
position, and a replica left on the old timeline can be past the number without having the row.
"""

import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass

from pgstatus.client import parse_lsn


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A replica that follows ``timeline`` and has replayed ``lsn`` has everything that was written.

    Until ``pinned_until`` (Unix seconds) that position is not known, and reads go to the master.
    """

    timeline: int = 0
    lsn: str = "0/0"
    pinned_until: float = 0.0

    def merged(self, other: "Bookmark") -> "Bookmark":
        """The bookmark that covers both."""
        last = max(self, other, key=lambda mark: (mark.timeline, parse_lsn(mark.lsn)))
        return Bookmark(last.timeline, last.lsn, max(self.pinned_until, other.pinned_until))

    def position(self) -> str:
        """The value for ``min_lsn``; without the timeline if no position is known."""
        return f"{self.timeline}:{self.lsn}" if self.timeline else self.lsn

    def is_pinned(self) -> bool:
        """Whether reads go to the master, whatever the replicas have replayed."""
        return self.pinned_until > time.time()


Marks = dict[str, Bookmark]
"""Bookmarks by the name of their cluster."""


def merge(into: Marks, other: Marks) -> None:
    """Move the bookmarks of ``into`` forward to those of ``other``."""
    for cluster, mark in other.items():
        into[cluster] = into.get(cluster, Bookmark()).merged(mark)


class Notes:
    """The bookmarks of one request: those that its client brought and those of its own writes.

    Several threads may work for one request.

    master_only: reads of this request go to the master.
    max_age: seconds after which they are not valid any more, since the last write; a task may
        outlive its request.
    """

    def __init__(self, brought: Marks, pin_seconds: float, max_age: float = 60.0) -> None:
        self.marks = dict(brought)
        self.wrote = False
        self.master_only = False
        self.pin_seconds = pin_seconds
        self._max_age = max_age
        self._valid_until = time.monotonic() + max_age
        self._unfinished: set[Write] = set()
        # Reentrant: the garbage collector may end a forgotten transaction in any thread.
        self._lock = threading.RLock()

    def mark(self, cluster: str) -> Bookmark | None:
        """The bookmark that a read from ``cluster`` has to satisfy."""
        mark = self.marks.get(cluster)
        return None if mark is None or time.monotonic() > self._valid_until else mark

    def begun(self, cluster: str) -> "Write":
        """A transaction that may write to ``cluster`` has begun."""
        write = Write(self, cluster)
        with self._lock:
            self._unfinished.add(write)
        return write

    def note(self, cluster: str, written: Bookmark) -> None:
        """A transaction was committed and is covered by ``written``."""
        with self._lock:
            merge(self.marks, {cluster: written})
            self.wrote = True
            self._valid_until = time.monotonic() + self._max_age

    def pin(self, cluster: str) -> None:
        """Something was written, or may be, at a position that is not known."""
        self.note(cluster, Bookmark(pinned_until=time.time() + self.pin_seconds))

    def pin_unfinished(self) -> None:
        """Pin what is not finished when the headers of the response are sent.

        That is an open transaction, or one whose commit has failed with its connection.
        """
        with self._lock:
            clusters = {write.cluster for write in self._unfinished}
        for cluster in clusters:
            self.pin(cluster)

    def is_behind(self, cluster: str) -> bool:
        """Whether something is committed to ``cluster`` that its mark does not cover yet."""
        with self._lock:
            return any(write.committed and write.cluster == cluster for write in self._unfinished)

    def finished(self, write: "Write") -> None:
        """``write`` needs no pin."""
        with self._lock:
            self._unfinished.discard(write)


class Write:
    """A transaction that may write, until its position is noted.

    committed: it has written, or may have, and is being committed; the position follows.
    """

    def __init__(self, notes: Notes, cluster: str) -> None:
        self.notes = notes
        self.cluster = cluster
        self.committed = False

    def note(self, written: Bookmark) -> None:
        """The position that covers it is known."""
        self.notes.note(self.cluster, written)
        self.finish()

    def pin(self) -> None:
        """The position will not be known."""
        self.notes.pin(self.cluster)

    def finish(self) -> None:
        """It has written nothing, or everything about it is noted."""
        self.notes.finished(self)


current_notes: ContextVar[Notes | None] = ContextVar("pgstatus_notes", default=None)
