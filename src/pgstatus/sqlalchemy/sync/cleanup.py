"""The end of sessions and engines of threads. Nothing waits for a server that does not respond."""

import logging
from collections.abc import Iterable

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from pgstatus.sqlalchemy.cleanup import close_on_return

logger = logging.getLogger("pgstatus.sqlalchemy")


def close_session(session: Session) -> None:
    """Close ``session``; its connection is in the pool again, or closed, on return."""
    session.close()


def roll_back_session(session: Session) -> None:
    """Roll back ``session``, also if its connection is lost; it can be used again."""
    try:
        session.rollback()
    except Exception as error:
        logger.debug("rollback failed, session closed: %r", error)
        session.close()


def close_sessions(sessions: Iterable[Session]) -> None:
    """Close all sessions, also if one fails; then raise the first error."""
    failure: Exception | None = None
    for session in sessions:
        try:
            session.close()
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure


def dispose_engine(engine: Engine) -> None:
    """Close what is idle in the pool now, and what is in use as soon as it is returned.

    SQLAlchemy's own ``dispose`` gives the engine another pool. A connection in use is returned to
    the old one, where it would stay open until it is garbage-collected.
    """
    pool = engine.pool
    close_on_return(pool)
    engine.dispose()
