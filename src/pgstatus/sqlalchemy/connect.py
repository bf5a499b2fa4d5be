"""Where sessions come from: an engine for a host, made when the first session asks for one.

The two factories stay in the hands of the application, so every option of SQLAlchemy is at hand.
"""

from collections.abc import Callable, Coroutine
from typing import Any
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from pgstatus.sqlalchemy.cleanup import dispose_engine

EngineCreatorFunc = Callable[[str], AsyncEngine]
SessionMakerCreatorFunc = Callable[[AsyncEngine], async_sessionmaker[AsyncSession]]
AsyncFunc = Callable[["DBConnect"], Coroutine[Any, Any, None]]


class DBConnect:
    """A database that sessions can be had from. One per database, for the application's life.

    ``host`` is the host in use, or None before the first one is known.
    """

    def __init__(
        self,
        engine_creator: EngineCreatorFunc,
        session_maker_creator: SessionMakerCreatorFunc,
        host: str | None = None,
        before_create_session_handler: AsyncFunc | None = None,
    ) -> None:
        """Remember how to connect; nothing is opened.

        engine_creator: gives the engine for a host.
        session_maker_creator: gives the session maker for an engine.
        host: where to connect; may be left to the handler.
        before_create_session_handler: awaited with this object before each new session, the place
            to call ``change_host`` from when another host is the right one now.
        """
        self.host = host
        self.context_key = str(uuid4())
        self._engine_creator = engine_creator
        self._session_maker_creator = session_maker_creator
        self._before_create_session_handler = before_create_session_handler
        self._engine: AsyncEngine | None = None
        self._session_maker: async_sessionmaker[AsyncSession] | None = None

    async def connect(self, host: str) -> None:
        """Make a new engine for ``host`` and use it from now on; the old one's pool is closed.

        Sessions in flight keep their connection of the old engine until they end.
        ValueError: ``host`` is empty.
        """
        if not host:
            raise ValueError("host must not be empty")
        old = self._engine
        # No await from here to the last assignment: nobody sees the host of one engine beside
        # the session maker of another, and a factory that fails leaves everything as it was.
        engine = self._engine_creator(host)
        self._session_maker = self._session_maker_creator(engine)
        self._engine, self.host = engine, host
        if old is not None:
            await dispose_engine(old)

    async def change_host(self, host: str) -> None:
        """``connect`` to ``host`` unless it is the one in use."""
        if not host:
            raise ValueError("host must not be empty")
        if host != self.host:
            await self.connect(host)

    async def create_session(self) -> AsyncSession:
        """A new session that the caller closes. It takes a connection at its first query."""
        maker = await self.session_maker()
        return maker()

    async def session_maker(self) -> async_sessionmaker[AsyncSession]:
        """The session maker of the host in use, after the handler had its say.

        ValueError: neither the constructor nor the handler named a host.
        """
        if self._before_create_session_handler is not None:
            await self._before_create_session_handler(self)
        if self._session_maker is None:
            if not self.host:
                raise ValueError("host is not set")
            await self.connect(self.host)
        assert self._session_maker is not None  # noqa: S101  `connect` has set it
        return self._session_maker

    async def close(self) -> None:
        """Close the pool. The next session opens a new one, so this may be called at any time."""
        engine, self._engine, self._session_maker = self._engine, None, None
        if engine is not None:
            await dispose_engine(engine)
