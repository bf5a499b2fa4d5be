"""What an error of a statement means for its transaction and for the host's pool.

Two facts are taken from SQLAlchemy's error event. A transaction in which a statement has failed is
aborted: PostgreSQL answers its COMMIT with ROLLBACK, without an error, so the commit has to be
refused. And a lost connection, or "cannot execute … in a read-only transaction" on the master,
means that the pool of this host must not be used any more.
"""

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, ExceptionContext, event, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from pgstatus.routing import failures
from pgstatus.routing.failures import READ_ONLY_TRANSACTION, cannot_connect, is_lost

ABORTED = "25P02"
_SELECT = text("SELECT 1")

_lost_connections: WeakSet[Connection] = WeakSet()


def sqlstate(error: BaseException | None) -> str:
    """The SQLSTATE of a driver's or SQLAlchemy's error; empty if it has none."""
    if isinstance(error, DBAPIError):
        error = error.orig
    return "" if error is None else failures.sqlstate(error)


def aborted_error(cause: BaseException) -> PendingRollbackError:
    """The error for a COMMIT that PostgreSQL would turn into a ROLLBACK."""
    error = PendingRollbackError(
        "A statement of this transaction has failed, so COMMIT would roll it back. Roll back, or "
        "run a statement that may fail inside `session.begin_nested()`."
    )
    error.__cause__ = cause
    return error


def refuse_to_commit_aborted(engine: Engine) -> None:
    """Let the commit of a transaction of ``engine`` fail if a statement of it has failed."""
    if not event.contains(engine, "handle_error", _check_before_commit):
        event.listen(engine, "handle_error", _check_before_commit)


def watch_engine(engine: Engine, retire: Callable[[str], None]) -> None:
    """Call ``retire`` with the SQLSTATE, if any, once a host cannot be used as it was.

    It decides about 25006; connection errors are always passed on, also those of connecting.
    """

    def handle_error(context: ExceptionContext) -> None:
        error = context.original_exception
        if not isinstance(error, Exception) or context.is_pre_ping:
            return  # a cancelled task, or one idle connection that is replaced, is no evidence
        state = sqlstate(error)
        if isinstance(error, ConnectionError):
            context.is_disconnect = True
        if context.is_disconnect or is_lost(error) or state == READ_ONLY_TRANSACTION:
            if context.connection is not None:
                _lost_connections.add(context.connection)
            retire(state)

    def do_connect(dialect: Any, record: Any, arguments: Any, parameters: Any) -> Any:
        try:
            return dialect.connect(*arguments, **parameters)
        except Exception as error:
            if cannot_connect(error):
                retire(sqlstate(error))
            raise

    event.listen(engine, "handle_error", handle_error)
    event.listen(engine, "do_connect", do_connect)


def has_connection(session: AsyncSession | Session) -> bool:
    """Whether the open transaction of ``session`` has reached a host."""
    return bool(_connections(_synchronous(session)))


def must_roll_back(session: AsyncSession | Session) -> bool:
    """Whether the open transaction of ``session`` can only be rolled back."""
    session = _synchronous(session)
    if not session.is_active:
        return True  # a flush has failed, perhaps because no connection could be made
    return any(each.invalidated or each in _lost_connections for each in _connections(session))


def _synchronous(session: AsyncSession | Session) -> Session:
    return session.sync_session if isinstance(session, AsyncSession) else session


def _connections(session: Session) -> set[Connection]:
    transaction = session.get_transaction()
    if transaction is None:
        return set()
    # SQLAlchemy has no public access to the connections that a transaction already has.
    return {connection for connection, *_ in transaction._connections.values()}


def _check_before_commit(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is not None and not event.contains(connection, "commit", _refuse_if_aborted):
        # On this connection, because listening on the engine has a cost for every query.
        event.listen(connection, "commit", _refuse_if_aborted)
        event.listen(connection, "prepare_twophase", _refuse_if_aborted)


def _refuse_if_aborted(connection: Connection, _xid: object = None) -> None:
    if connection.invalidated:
        return  # SQLAlchemy raises its own error
    try:
        connection.execute(_SELECT)
    except DBAPIError as error:
        if sqlstate(error) == ABORTED:
            raise aborted_error(error) from error
        raise
