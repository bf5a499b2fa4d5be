"""A database that sessions can be created for; its engine is created by the first session.

The engine and the session maker are created by functions of the application, which can use every
option of SQLAlchemy.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from pgstatus.sqlalchemy.cleanup import dispose_engine
from pgstatus.sqlalchemy.failures import refuse_to_commit_aborted

EngineCreatorFunc = Callable[[str], AsyncEngine]
SessionMakerCreatorFunc = Callable[[AsyncEngine], async_sessionmaker[AsyncSession]]
MakerT = TypeVar("MakerT")
EngineT = TypeVar("EngineT", AsyncEngine, Engine)
AsyncFunc = Callable[["DBConnect"], Coroutine[Any, Any, None]]


class DBConnect:
    """A database for ``db_session``. Create one per database, for the lifetime of the application.

    ``host`` is the host in use, or None before the first one is known. ``context_key`` identifies
    the sessions of this object in a context.
    """

    joins: "DBConnect | None" = None
    """The DBConnect whose session is used instead, while it has an open transaction."""

    @property
    def has_handler(self) -> bool:
        """Whether code of the application runs before a session is created."""
        return self._before_create_session_handler is not None

    def __init__(
        self,
        engine_creator: EngineCreatorFunc,
        session_maker_creator: SessionMakerCreatorFunc,
        host: str | None = None,
        before_create_session_handler: AsyncFunc | None = None,
    ) -> None:
        """Store how to connect; no connection is opened.

        engine_creator: returns the engine for a host.
        session_maker_creator: returns the session maker for an engine.
        host: the host to connect to; may be left to the handler.
        before_create_session_handler: awaited with this object before each new session; it may
            call ``change_host`` if another host is to be used.
        """
        self.host = host
        self.context_key = str(uuid4())
        self._engine_creator = engine_creator
        self._session_maker_creator = session_maker_creator
        self._before_create_session_handler = before_create_session_handler
        self._engine: AsyncEngine | None = None
        self._session_maker: async_sessionmaker[AsyncSession] | None = None

    async def connect(self, host: str) -> None:
        """Create a new engine for ``host`` and use it from now on; the old one's pool is closed.

        Sessions in use keep their connection of the old engine until they end.
        ValueError: ``host`` is empty, or the session maker is bound to another engine.
        """
        if not host:
            raise ValueError("host must not be empty")
        old = self._engine
        # No await from here to the last assignment: no task sees the host of one engine with the
        # session maker of another, and a function that fails leaves everything unchanged.
        engine = self._engine_creator(host)
        self._session_maker = bound_session_maker(self._session_maker_creator, engine)
        self._engine, self.host = engine, host
        if isinstance(engine, AsyncEngine):  # not a substitute in an application's unit test
            refuse_to_commit_aborted(engine.sync_engine)
        if old is not None and old is not engine:
            await dispose_engine(old)

    async def change_host(self, host: str) -> None:
        """``connect`` to ``host`` unless it is the one in use."""
        if not host:
            raise ValueError("host must not be empty")
        if host != self.host:
            await self.connect(host)

    async def create_session(self) -> AsyncSession:
        """A new session, which the caller closes. It takes a connection at its first query."""
        maker = await self.session_maker()
        return maker()

    async def session_maker(self) -> async_sessionmaker[AsyncSession]:
        """The session maker of the host in use, after the handler has run.

        ValueError: neither the constructor nor the handler set a host.
        """
        if self._before_create_session_handler is not None:
            await self._before_create_session_handler(self)
        if self._session_maker is None:
            if not self.host:
                raise ValueError("host is not set")
            await self.connect(self.host)
        assert self._session_maker is not None  # noqa: S101  `connect` has set it
        if self._engine is not None:
            require_bound(self._session_maker, self._engine)
        return self._session_maker

    async def close(self) -> None:
        """Close the pool. The next session opens a new one, so this may be called at any time."""
        engine, self._engine, self._session_maker = self._engine, None, None
        if engine is not None:
            await dispose_engine(engine)

    def is_usable(self, session: AsyncSession) -> bool:
        """Whether ``db_session`` may return this session of its context without a new choice."""
        return True

    async def renewed(self, session: AsyncSession) -> AsyncSession:
        """The session to use instead of one that is not usable; the same one if it was rebound."""
        return session


def bound_session_maker(creator: Callable[[EngineT], MakerT], engine: EngineT) -> MakerT:
    """The session maker that ``creator`` returns for ``engine``. ValueError: see require_bound."""
    maker = creator(engine)
    require_bound(maker, engine)
    return maker


def require_bound(maker: object, engine: AsyncEngine | Engine) -> None:
    """ValueError: sessions of ``maker`` would not use ``engine``, but for example another host."""
    options = getattr(maker, "kw", None)
    if not isinstance(options, dict):
        return  # a substitute in an application's unit test
    if options.get("bind") is engine and not options.get("binds"):
        return
    binds = [options.get("bind"), *(options.get("binds") or {}).values()]
    # An engine with other execution options is a different object with the same pool.
    if any(getattr(bind, "pool", None) is not engine.pool for bind in binds):
        raise ValueError(
            "session_maker_creator must return a session maker of its own for each engine, "
            f"bound to the engine that it is given ({engine.url!r})"
        )
