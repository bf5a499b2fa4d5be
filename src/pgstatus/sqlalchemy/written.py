"""Learns the position of a session's writes, after their commit and on the connection they took.

Before the commit the position does not cover the commit record itself: a replica "past" it can
still miss the rows. So the question is asked twice: did the transaction write (that is known only
inside of it, and last of all), and where is the log now (after it). Two round trips for a
transaction that wrote, one for one that did not, none outside of a request that keeps notes.
"""

from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, SessionTransaction

from pgstatus.sqlalchemy.bookmark import Bookmark, current_notes

WROTE = text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
# The timeline is in the name of the log's file, which any role may ask for.
POSITION = text(
    "SELECT pg_current_wal_insert_lsn()::text,"
    " substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)"
)

_CONNECTION = "pgstatus.connection"
_WROTE = "pgstatus.wrote"


def watch_sessions(maker: async_sessionmaker[AsyncSession], cluster: str) -> None:
    """Let the sessions of ``maker`` note what they write to ``cluster`` in the request's notes.

    They become sessions of a subclass, so that what is listened for is set up once and not per
    session.
    """
    base: type[Session] = maker.kw.get("sync_session_class") or maker.class_.sync_session_class
    watched: type[Session] = type(f"Watched{base.__name__}", (base,), {})

    def after_begin(session: Session, _: SessionTransaction, connection: Connection) -> None:
        notes = current_notes.get()
        if notes is not None and session.info.get(_CONNECTION) is not connection:
            notes.watch(cluster, session)
            session.info[_CONNECTION] = connection
            # On this connection, as listening on the engine costs every query of it.
            event.listen(connection, "commit", _before_commit)

    def after_commit(session: Session) -> None:
        notes = current_notes.get()
        connection: Connection | None = session.info.get(_CONNECTION)
        if notes is None or connection is None or connection.closed:
            return
        if not connection.info.pop(_WROTE, False):
            return  # nothing written, or a savepoint's release
        try:
            written = _position(connection)
        except BaseException as error:
            # The commit stands; that its position is not known must not undo it, nor be forgotten.
            notes.pin(cluster)
            if not isinstance(error, Exception):
                raise
        else:
            notes.note(cluster, written)

    event.listen(watched, "after_begin", after_begin)
    event.listen(watched, "after_commit", after_commit)
    maker.configure(sync_session_class=watched)


def _before_commit(connection: Connection) -> None:
    if getattr(connection.connection.dbapi_connection, "autocommit", False):
        # Each statement has committed itself, and there is no transaction left to ask.
        connection.info[_WROTE] = True
        return
    try:
        connection.info[_WROTE] = connection.scalar(WROTE)
    except DBAPIError:
        # An aborted transaction or a lost connection: the commit will say so. If it succeeds
        # against the odds, then a position too many is harmless.
        connection.info[_WROTE] = True


def _position(connection: Connection) -> Bookmark:
    # Autocommit is client-side in both drivers, and spares the BEGIN and the ROLLBACK around this.
    # The pool resets it when the session gives the connection back, which is next.
    connection.execution_options(isolation_level="AUTOCOMMIT")
    row: Any = connection.execute(POSITION).one()
    return Bookmark(timeline=int(row[1], 16), lsn=row[0])
