"""Learns the position of every write to a master, however the application has made it.

The events of the engine are used, so that every session class, ``engine.begin()``, COPY through the
driver and two-phase commits are covered. Before the commit, the server is asked whether it has
assigned a transaction ID; after it, when the connection returns to its pool, for the position: the
position before the commit does not cover the commit record, and a replica "past" it can still lack
the rows.

The first question is asked behind a savepoint in one round trip, so that its failure does not abort
the transaction. Two round trips for a transaction that wrote, one for one that did not, none
outside of a request that keeps notes.
"""

import asyncio
import logging
import time
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, event

from pgstatus.bookmarks.bookmark import Notes, Write, current_notes
from pgstatus.bookmarks.position import HAS_WRITTEN, POSITION, bookmark, hint
from pgstatus.sqlalchemy.driver import in_transaction, is_closed
from pgstatus.sqlalchemy.failures import ABORTED, aborted_error, sqlstate

logger = logging.getLogger("pgstatus.sqlalchemy")

_SAVEPOINT = "pgstatus_bookmark"
_WROTE = f"SAVEPOINT {_SAVEPOINT}; {HAS_WRITTEN}"
_FORGET = f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}"
# How long a query that has failed is not repeated.
RETRY_SECONDS = 60.0

_WRITE = "pgstatus.write"


class Driver(Protocol):
    """`driver`, or `sync.driver`."""

    def command_tag(self, driver: Any, statements: str) -> str: ...

    def row(self, driver: Any, query: str) -> tuple[Any, ...]: ...


def watch_writes(engine: Engine, cluster: str, driver: Driver) -> None:
    """Note every write through ``engine``, a master of ``cluster``, in the request's notes."""
    watch = _Watch(cluster, driver)
    event.listen(engine, "begin", watch.begin)
    event.listen(engine, "begin_twophase", watch.begin)
    event.listen(engine, "commit", watch.commit)
    event.listen(engine, "prepare_twophase", watch.commit)
    event.listen(engine, "commit_twophase", watch.commit_twophase)
    event.listen(engine, "rollback", watch.rollback)
    event.listen(engine, "reset", watch.reset)


class _Watch:
    """The listeners of one engine."""

    def __init__(self, cluster: str, driver: Driver) -> None:
        self._cluster = cluster
        self._driver = driver
        self._unavailable_until = 0.0

    def begin(self, connection: Connection, _xid: object = None) -> None:
        notes = current_notes.get()
        if notes is not None and _WRITE not in connection.info:
            connection.info[_WRITE] = notes.begun(self._cluster)

    def commit(self, connection: Connection, _xid: object = None) -> None:
        write = _write_of(connection)
        if write is None or write.committed:
            return
        dbapi: Any = connection.connection.driver_connection
        # Without a transaction, each statement has committed itself, and there is none to ask.
        if not in_transaction(dbapi) or self._has_written(dbapi, write):
            write.committed = True
        else:
            del connection.info[_WRITE]
            write.finish()

    def commit_twophase(self, connection: Connection, _xid: object, _prepared: bool) -> None:
        write = _write_of(connection)
        if write is not None:
            write.committed = True

    def rollback(self, connection: Connection) -> None:
        write = _write_of(connection)
        if write is None or write.committed:
            return
        dbapi: Any = connection.connection.driver_connection
        if not in_transaction(dbapi) and not is_closed(dbapi):
            write.committed = True  # nothing to roll back: statements have committed themselves
        else:
            del connection.info[_WRITE]
            write.finish()

    def reset(self, _connection: object, record: Any, state: Any) -> None:
        write: Write | None = record.info.pop(_WRITE, None)
        if write is None:
            return
        if not write.committed:
            write.finish()
        elif state.asyncio_safe and not state.terminate_only:
            self._note_position(record, write)

    def _has_written(self, dbapi: Any, write: Write) -> bool:
        if time.monotonic() < self._unavailable_until:
            write.pin()
            return True
        try:
            return self._driver.command_tag(dbapi, _WROTE) == "SELECT 1"
        except Exception as error:
            if sqlstate(error) == ABORTED:
                raise aborted_error(error) from error
            self._forget_failure(dbapi, error)
            self._unavailable(error, write.notes)
            write.pin()
            return True

    def _forget_failure(self, dbapi: Any, cause: Exception) -> None:
        try:
            self._driver.command_tag(dbapi, _FORGET)
        except Exception:
            if not is_closed(dbapi):
                raise aborted_error(cause) from cause
            # The commit that follows reports the lost connection with SQLAlchemy's own error.

    def _note_position(self, record: Any, write: Write) -> None:
        try:
            lsn, timeline = self._driver.row(record.driver_connection, POSITION)
        except BaseException as error:
            # The commit stands: an unknown position must not undo it, and is not forgotten.
            write.pin()
            write.finish()
            if not isinstance(error, Exception):
                raise
            self._unavailable(error, write.notes)
            if isinstance(error, asyncio.TimeoutError):  # Python 3.10
                record.invalidate()
        else:
            write.note(bookmark(lsn, timeline))

    def _unavailable(self, error: Exception, notes: Notes) -> None:
        if time.monotonic() < self._unavailable_until:
            return
        self._unavailable_until = time.monotonic() + RETRY_SECONDS
        logger.warning(
            "the position of a write to cluster %r cannot be determined: %s. Clients that write "
            "read from the master for %g s afterwards.%s",
            self._cluster,
            error,
            notes.pin_seconds,
            hint(sqlstate(error)),
        )


def _write_of(connection: Connection) -> Write | None:
    if connection.closed or connection.invalidated:
        return None
    return connection.info.get(_WRITE)
