"""Notes what a request writes, however the application has written it.

A transaction is asked for its transaction ID together with its commit, in one round trip. Outside
of a transaction each statement commits itself, and the server does not report whether it
has written: each cursor on the master counts as a write, except those of the ORM's queries. The
position that covers all of them is requested once, at the end of the request.
"""

import logging
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from pgstatus.bookmarks.bookmark import Write, current_notes
from pgstatus.bookmarks.position import HAS_WRITTEN, POSITION, REQUIRED, bookmark

logger = logging.getLogger("pgstatus.django")

_SAVEPOINT = "pgstatus_bookmark"
_COMMIT = f"SAVEPOINT {_SAVEPOINT}; {HAS_WRITTEN}; COMMIT"
_FORGET = f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}"

Connection = psycopg.Connection[Any]


class Writes:
    """The writes of one thread to one cluster, in the current request."""

    def __init__(self, name: str) -> None:
        """``name`` distinguishes clusters in a client's bookmark."""
        self._name = name
        self._write: Write | None = None
        self._is_reported = False

    def begin(self, *, commits_itself: bool) -> None:
        """A statement is about to be sent to the master."""
        notes = current_notes.get()
        if notes is None:
            return
        if self._write is None or self._write.notes is not notes:
            self._write = notes.begun(self._name)
        if commits_itself:
            self._write.committed = True

    def commit(self, connection: Connection) -> None:
        """Commit, if the transaction has to be asked whether it has written."""
        write = self._current()
        if write is None or write.committed or not in_transaction(connection):
            return
        write.committed = True  # until the answer is known; the connection may be lost meanwhile
        try:
            has_written = _has_row(connection)
        except psycopg.Error as error:
            if connection.info.transaction_status != TransactionStatus.INERROR:
                raise  # the commit has failed
            # The question has failed; the commit was not tried.
            connection.execute(_FORGET, prepare=False)
            self._report(error, write)
            write.pin()
            has_written = True
        if not has_written:
            self._end(write)

    def roll_back(self) -> None:
        """The transaction is rolled back."""
        write = self._current()
        if write is not None and not write.committed:
            self._end(write)

    def note(self, connection: Connection) -> None:
        """Request the position, if something has been committed.

        An open transaction remains unfinished, and its client reads from the master for a while.
        """
        write = self._current()
        if (
            write is None
            or not write.committed
            or connection.info.transaction_status != TransactionStatus.IDLE
        ):
            return
        try:
            lsn, timeline = _position(connection)
        except psycopg.Error as error:
            # The commit stands: an unknown position must not undo it, and is not forgotten.
            write.pin()
            if not connection.closed:
                self._report(error, write)
        else:
            write.note(bookmark(lsn, timeline))
        self._end(write)

    def _current(self) -> Write | None:
        """The write of this request; that of an earlier one is dropped."""
        if self._write is not None and self._write.notes is not current_notes.get():
            self._write = None
        return self._write

    def _end(self, write: Write) -> None:
        write.finish()
        self._write = None

    def _report(self, error: Exception, write: Write) -> None:
        if not self._is_reported:
            self._is_reported = True
            logger.warning(
                "the position of a write to cluster %r cannot be determined: %s. Clients that "
                "write read from the master for %g s afterwards. The role needs EXECUTE on %s.",
                self._name,
                error,
                write.notes.pin_seconds,
                REQUIRED,
            )


def in_transaction(connection: Connection) -> bool:
    """Whether the server has an open transaction in which no statement has failed."""
    return connection.info.transaction_status == TransactionStatus.INTRANS


def _has_row(connection: Connection) -> bool:
    """Ask, and commit. One round trip."""
    cursor = connection.cursor()
    cursor.execute(_COMMIT, prepare=False)
    cursor.nextset()
    return cursor.rowcount > 0


def _position(connection: Connection) -> tuple[str, str]:
    """Without a transaction around it, which would remain open."""
    autocommit = connection.autocommit
    if not autocommit:
        connection.autocommit = True  # a flag of the client: no round trip
    try:
        row = connection.cursor().execute(POSITION, prepare=False).fetchone()
    finally:
        if not autocommit:
            connection.autocommit = False
    lsn, timeline = row or ("0/0", "0")  # it always returns a row
    return str(lsn), str(timeline)
