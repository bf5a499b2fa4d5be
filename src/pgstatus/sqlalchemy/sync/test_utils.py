# Generated from pgstatus/sqlalchemy/test_utils.py: see `make unasync`.
"""For tests that share one transaction with the application and roll it back at their end.

A middleware uses the context that a test has opened around the request. The test puts sessions into
it whose commits are savepoints of the test's own transaction.
"""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from pgstatus.sqlalchemy.sync.auto_commit import commit_all_sessions, rollback_all_sessions
from pgstatus.sqlalchemy.sync.cleanup import close_session, close_sessions
from pgstatus.sqlalchemy.sync.connect import DBConnect
from pgstatus.sqlalchemy.sync.context import (
    current_sessions,
    init_shared_ctx,
    put_db_session_to_context,
    reset_db_session_ctx,
)
from pgstatus.sqlalchemy.sync.sessions import SessionFactory


@contextmanager
def rollback_session(connection: DBConnect) -> Generator[Session]:
    """A session for the test itself, rolled back at its end."""
    session = connection.create_session()
    try:
        yield session
    finally:
        close_session(session)


@contextmanager
def set_test_context(auto_close: bool = False) -> Generator[None]:
    """Open a context as the middleware does; requests inside it use it, in this thread.

    With ``auto_close`` the sessions created in it are committed, or rolled back after an exception,
    and closed. Without, the test closes them.
    """
    token = init_shared_ctx()
    try:
        yield
        if auto_close:
            commit_all_sessions()
    except Exception:
        if auto_close:
            rollback_all_sessions()
        raise
    finally:
        reset_db_session_ctx(token, with_close=auto_close)


@contextmanager
def put_savepoint_session_in_ctx(connection: DBConnect, session: Session) -> Generator[None]:
    """Use sessions on the connection of ``session``, inside its transaction, for ``connection``.

    They are created by the session maker of ``connection``; their commits release savepoints, so
    the test sees them and its rollback undoes them. This includes the sessions of ``db_session``
    after ``close_db_session``, of ``run_in_new_ctx`` (one after another, because there is one
    connection) and of ``new_non_ctx_session``. To be used inside ``set_test_context``.
    """
    with _savepoint_sessions(connection, session.connection()) as create:
        put_db_session_to_context(connection, create())
        yield


@contextmanager
def rolled_back_test_context(connection: DBConnect, *others: DBConnect) -> Generator[Session]:
    """One transaction of ``connection`` for the test and the application, rolled back at the end.

    ``others``, for example replicas, use the session of ``connection``, so they see what it has
    written. It opens a test context; the sessions in it are those of
    ``put_savepoint_session_in_ctx``. The test uses the session that it is given, whose commit only
    flushes.
    """
    maker = connection.session_maker()
    with ExitStack() as stack:
        bind = stack.enter_context(maker.kw["bind"].connect())
        bind.begin()
        stack.callback(_roll_back, bind)
        mine = maker(bind=bind, join_transaction_mode="rollback_only")
        stack.callback(close_session, mine)
        stack.enter_context(set_test_context())
        create = stack.enter_context(_savepoint_sessions(connection, bind))
        put_db_session_to_context(connection, create())
        current_sessions().aliases = {other.context_key: connection for other in others}
        yield mine


@contextmanager
def _savepoint_sessions(connection: DBConnect, bind: Connection) -> Generator[SessionFactory]:
    """Let this context create the sessions of ``connection`` inside the transaction of ``bind``."""
    maker = connection.session_maker()
    created: list[Session] = []

    def create() -> Session:
        session = maker(bind=bind, join_transaction_mode="create_savepoint")
        created.append(session)
        return session

    sessions = current_sessions()
    before = sessions.factories
    sessions.factories = {**before, connection.context_key: create}
    try:
        yield create
    finally:
        sessions.factories = before
        close_sessions(reversed(created))


def _roll_back(connection: Connection) -> None:
    if connection.in_transaction():
        connection.rollback()
