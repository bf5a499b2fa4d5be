"""The container of one context's sessions: creates each once, moves it, closes all of them."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from pgstatus.sqlalchemy.cleanup import close_session, close_sessions
from pgstatus.sqlalchemy.connect import DBConnect
from pgstatus.sqlalchemy.container import Container

SessionFactory = Callable[[], Awaitable[AsyncSession]]

# The event loop holds only weak references to tasks.
_closing: set[asyncio.Future[None]] = set()
# Sessions that are being created by the running code, or by the code that started it.
_opening: ContextVar[frozenset[tuple[int, str]]] = ContextVar(
    "pgstatus_opening", default=frozenset()
)


class Sessions(Container[AsyncSession, DBConnect, SessionFactory]):
    """The container, for tasks."""

    def __init__(
        self, outer: "Sessions | None" = None, *, shared: bool = False, of_request: bool = False
    ) -> None:
        super().__init__(outer, shared=shared, of_request=of_request)
        self._nested_turn: asyncio.Lock | None = None
        self._task = _current_task()
        self._opening: dict[str, asyncio.Lock] = {}
        self._late: set[asyncio.Task[Any]] = set()

    @property
    def nested_turn(self) -> asyncio.Lock:
        """Held by the nested context that may use a test's connection."""
        if self._nested_turn is None:
            self._nested_turn = asyncio.Lock()
        return self._nested_turn

    def is_of_this_task(self) -> bool:
        """Whether the running task opened this context."""
        return self._task is not None and self._task is _current_task()

    async def open(self, connect: DBConnect) -> AsyncSession:
        """The session of ``connect``, created once for all tasks that request it concurrently."""
        if self.ended:
            self._outlived_by_this_task()
        if self.aliases:
            connect = self.aliases.get(connect.context_key, connect)
        key = connect.context_key
        if (joined := self.joined(connect)) is not None:
            return joined
        session = self.get(key)
        if session is not None and connect.is_usable(session):
            return session
        opening = (id(self), key)
        if connect.has_handler and opening in _opening.get():
            # The handler of ``connect`` requests the session for which it was called.
            return self.setdefault(key, await self.create(connect))
        async with self._opening.setdefault(key, asyncio.Lock()):
            session = self.get(key)
            if session is not None:
                return await self._renewed(connect, session)
            if not connect.has_handler:
                created = self[key] = await self.create(connect)
                return created
            token = _opening.set(_opening.get() | {opening})
            try:
                created = await self.create(connect)
            finally:
                _opening.reset(token)
            session = self.setdefault(key, created)
            if session is not created:
                await close_session(created)
            return session

    async def create(self, connect: DBConnect) -> AsyncSession:
        """A new session of ``connect`` outside of the container."""
        if not self.factories:
            return await connect.create_session()
        connect = self.aliases.get(connect.context_key, connect)
        factory = self.factories.get(connect.context_key)
        return await (connect.create_session() if factory is None else factory())

    async def close_all(self) -> None:
        """Close every session; each connection is in its pool again, or dropped, on return."""
        await close_sessions(self.everything())

    async def end(self) -> None:
        """Close every session, because the code that opened this context leaves it."""
        self.ended = True
        try:
            await self.close_all()
        finally:
            self.forget()

    async def _renewed(self, connect: DBConnect, session: AsyncSession) -> AsyncSession:
        if connect.is_usable(session):
            return session
        return self.replace(connect, session, await connect.renewed(session))

    def _outlived_by_this_task(self) -> None:
        """Let a task that continues after its request have a session until the last such task ends.

        Committing is the task's responsibility.
        """
        task = asyncio.current_task()
        if task is None or task in self._late:
            return
        self._late.add(task)
        task.add_done_callback(self._late_task_ended)
        warnings.warn(
            "db_session() in a task that outlives its request: the session is not committed "
            "automatically; start the task with run_in_new_ctx",
            RuntimeWarning,
            stacklevel=4,
        )

    def _late_task_ended(self, task: asyncio.Task[Any]) -> None:
        self._late.discard(task)
        if not self._late:
            closing = asyncio.ensure_future(self.end())
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
