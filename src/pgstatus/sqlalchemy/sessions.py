"""The container of one context's sessions: creates each once, moves it, closes all of them."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from pgstatus.sqlalchemy.cleanup import close_session, close_sessions
from pgstatus.sqlalchemy.connect import DBConnect

SessionFactory = Callable[[], Awaitable[AsyncSession]]

_NONE: Mapping[str, Any] = MappingProxyType({})
# The event loop holds only weak references to tasks.
_closing: set[asyncio.Future[None]] = set()
# Sessions that are being created by the running code, or by the code that started it.
_opening: ContextVar[frozenset[tuple[int, str]]] = ContextVar(
    "pgstatus_opening", default=frozenset()
)


class Sessions(dict[str, AsyncSession]):
    """The sessions of one context by the ``context_key`` of their DBConnect.

    factories: functions that create sessions instead of a DBConnect, by context key; set by the
        test helpers and inherited by nested contexts.
    aliases: DBConnects that are used instead of others, by context key; likewise.
    master_only: reads of this context and of contexts nested in it go to the master.
    shared: opened by a test; middlewares use it instead of opening their own.
    of_request: opened by a middleware.
    lost_transaction: a transaction of this context was lost and the application did not end it, so
        a request must not be reported as successful.
    """

    def __init__(
        self, outer: "Sessions | None" = None, *, shared: bool = False, of_request: bool = False
    ) -> None:
        super().__init__()
        self.factories: Mapping[str, SessionFactory] = _NONE if outer is None else outer.factories
        self.aliases: Mapping[str, DBConnect] = _NONE if outer is None else outer.aliases
        self.master_only: bool = outer is not None and outer.master_only
        self.shared = shared
        self.of_request = of_request
        self.lost_transaction = False
        self.ended = False
        self._nested_turn: asyncio.Lock | None = None
        self._task = _current_task()
        self._opening: dict[str, asyncio.Lock] = {}
        self._set_aside: tuple[AsyncSession, ...] = ()
        self._late: set[asyncio.Task[Any]] = set()

    def everything(self) -> tuple[AsyncSession, ...]:
        """All sessions that the end of this context commits or rolls back, and closes."""
        return (*self.values(), *self._set_aside)

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
        if connect.joins is not None:
            writing = self.get(connect.joins.context_key)
            if writing is not None and writing.in_transaction():
                return writing
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
            self.clear()
            self._set_aside = ()

    async def _renewed(self, connect: DBConnect, session: AsyncSession) -> AsyncSession:
        if connect.is_usable(session):
            return session
        renewed = await connect.renewed(session)
        if renewed is not session:
            # Code that still refers to the old session, such as a cursor being read, may continue.
            self._set_aside = (*self._set_aside, session)
            self[connect.context_key] = renewed
        return renewed

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
