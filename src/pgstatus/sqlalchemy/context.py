"""The sessions of one request, shared by all of its coroutines through a context variable.

The variable holds one container, and a child task inherits the variable: so what a child puts into
the container is seen, committed and closed by whoever opened the context.
"""

import asyncio
import warnings
from contextvars import ContextVar, Token
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from pgstatus.sqlalchemy.cleanup import close_sessions
from pgstatus.sqlalchemy.connect import DBConnect


class ContextAlreadyInitiatedError(Exception):
    """A context is open already, and a second one was not asked for with ``force``."""

    def __init__(self, message: str = "Context already initiated") -> None:
        super().__init__(message)


class ContextNotInitiatedError(Exception):
    """There is no context: no middleware, ``run_in_new_ctx`` or ``set_test_context`` around."""

    def __init__(self, message: str = "Context is not initiated") -> None:
        super().__init__(message)


class Sessions(dict[str, AsyncSession]):
    """The sessions of one context by the ``context_key`` of their DBConnect."""

    def __init__(self) -> None:
        super().__init__()
        self._opening: dict[str, asyncio.Lock] = {}
        self._ended = False
        self._late: set[asyncio.Task[Any]] = set()

    async def open(self, connect: DBConnect) -> AsyncSession:
        """The session of ``connect``, made once however many tasks ask for it at the same time."""
        if self._ended:
            self._outlived_by_this_task()
        session = self.get(connect.context_key)
        if session is not None:
            return session
        async with self._opening.setdefault(connect.context_key, asyncio.Lock()):
            session = self.get(connect.context_key)
            if session is None:
                session = self[connect.context_key] = await connect.create_session()
        return session

    async def close_all(self) -> None:
        """Close every session; each connection is back in its pool or dropped on return."""
        await close_sessions(tuple(self.values()))

    async def end(self) -> None:
        """The owner of the context leaves: close everything."""
        self._ended = True
        try:
            await self.close_all()
        finally:
            self.clear()

    def _outlived_by_this_task(self) -> None:
        """A task goes on after its request and asks for a session that nobody would close.

        It may have one, until the last such task has ended; committing is up to the task.
        """
        task = asyncio.current_task()
        if task is None or task in self._late:
            return
        self._late.add(task)
        task.add_done_callback(self._late_task_ended)
        warnings.warn(
            "db_session() in a task that outlives its request: nothing commits for it; "
            "start it with run_in_new_ctx",
            RuntimeWarning,
            stacklevel=4,
        )

    def _late_task_ended(self, task: asyncio.Task[Any]) -> None:
        self._late.discard(task)
        if not self._late:
            closing = asyncio.ensure_future(self.end())
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)


# The loop alone would let go of a task that nobody holds.
_closing: set[asyncio.Future[None]] = set()
_sessions: ContextVar[Sessions | None] = ContextVar("pgstatus_sessions", default=None)


def current_sessions() -> Sessions:
    """The container of this context; ContextNotInitiatedError where there is none."""
    sessions = _sessions.get()
    if sessions is None:
        raise ContextNotInitiatedError
    return sessions


def init_db_session_ctx(force: bool = False) -> Token[Sessions | None]:
    """Open a context and return the token that ``reset_db_session_ctx`` closes it with.

    With ``force`` it is opened inside another one, which comes back after the reset.
    """
    if not force and is_context_initiated():
        raise ContextAlreadyInitiatedError
    return _sessions.set(Sessions())


def is_context_initiated() -> bool:
    """Whether there is a context here."""
    return _sessions.get() is not None


async def reset_db_session_ctx(token: Token[Sessions | None], with_close: bool = True) -> None:
    """Leave the context of ``token``, closing its sessions unless ``with_close`` is false."""
    try:
        sessions = _sessions.get()
        if with_close and sessions is not None:
            await sessions.end()
    finally:
        _sessions.reset(token)


def get_db_session_from_context(connect: DBConnect) -> AsyncSession | None:
    """The session of ``connect`` if this context has one already."""
    return current_sessions().get(connect.context_key)


def put_db_session_to_context(connection: DBConnect, session: AsyncSession) -> None:
    """Make ``session`` the one of ``connection`` here. What was there before is not closed."""
    current_sessions()[connection.context_key] = session


def pop_db_session_from_context(connect: DBConnect) -> AsyncSession | None:
    """Take the session of ``connect`` out, for the caller to close. None without a context."""
    sessions = _sessions.get()
    return None if sessions is None else sessions.pop(connect.context_key, None)
