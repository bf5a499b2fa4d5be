"""A database that sessions can be created for; its engine is created by the first session."""

import threading
from collections.abc import Callable
from uuid import uuid4

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from pgstatus.sqlalchemy.connect import bound_session_maker, require_bound
from pgstatus.sqlalchemy.failures import refuse_to_commit_aborted
from pgstatus.sqlalchemy.sync.cleanup import dispose_engine

EngineCreatorFunc = Callable[[str], Engine]
SessionMakerCreatorFunc = Callable[[Engine], sessionmaker[Session]]


class DBConnect:
    """A database for ``db_session``. Create one per database, for the lifetime of the application.

    ``host`` is the host in use, or None before the first one is known. ``context_key`` identifies
    the sessions of this object in a context.
    """

    joins: "DBConnect | None" = None
    """The DBConnect whose session is used instead, while it has an open transaction."""

    def __init__(
        self,
        engine_creator: EngineCreatorFunc,
        session_maker_creator: SessionMakerCreatorFunc,
        host: str | None = None,
    ) -> None:
        """Store how to connect; no connection is opened.

        engine_creator: returns the engine for a host.
        session_maker_creator: returns the session maker for an engine.
        """
        self.host = host
        self.context_key = str(uuid4())
        self._engine_creator = engine_creator
        self._session_maker_creator = session_maker_creator
        self._lock = threading.RLock()
        self._engine: Engine | None = None
        self._session_maker: sessionmaker[Session] | None = None

    def connect(self, host: str) -> None:
        """Create a new engine for ``host`` and use it from now on; the old one's pool is closed.

        Sessions in use keep their connection of the old engine until they end.
        ValueError: ``host`` is empty, or the session maker is bound to another engine.
        """
        if not host:
            raise ValueError("host must not be empty")
        with self._lock:
            old = self._engine
            engine = self._engine_creator(host)
            self._session_maker = bound_session_maker(self._session_maker_creator, engine)
            self._engine, self.host = engine, host
            refuse_to_commit_aborted(engine)
        if old is not None and old is not engine:
            dispose_engine(old)

    def change_host(self, host: str) -> None:
        """``connect`` to ``host`` unless it is the one in use."""
        with self._lock:
            if not host or host != self.host:
                self.connect(host)

    def create_session(self) -> Session:
        """A new session, which the caller closes. It takes a connection at its first query."""
        return self.session_maker()()

    def session_maker(self) -> sessionmaker[Session]:
        """The session maker of the host in use. ValueError: no host is set."""
        with self._lock:
            if self._session_maker is None:
                if not self.host:
                    raise ValueError("host is not set")
                self.connect(self.host)
            maker, engine = self._session_maker, self._engine
        assert maker is not None  # noqa: S101  `connect` has set both
        assert engine is not None  # noqa: S101
        require_bound(maker, engine)
        return maker

    def close(self) -> None:
        """Close the pool. The next session opens a new one, so this may be called at any time."""
        with self._lock:
            engine, self._engine, self._session_maker = self._engine, None, None
        if engine is not None:
            dispose_engine(engine)

    def is_usable(self, session: Session) -> bool:
        """Whether ``db_session`` may return this session of its context without a new choice."""
        return True

    def renewed(self, session: Session) -> Session:
        """The session to use instead of one that is not usable; the same one if it was rebound."""
        return session
