"""The container of one context's sessions: creates each once, moves it, closes all of them."""

import threading
from collections.abc import Callable

from sqlalchemy.orm import Session

from pgstatus.sqlalchemy.container import Container
from pgstatus.sqlalchemy.context import ContextNotInitiatedError
from pgstatus.sqlalchemy.sync.cleanup import close_sessions
from pgstatus.sqlalchemy.sync.connect import DBConnect

SessionFactory = Callable[[], Session]


class Sessions(Container[Session, DBConnect, SessionFactory]):
    """The container, for one thread at a time.

    nested_turn: held by the nested context that may use a test's connection.
    """

    def __init__(
        self, outer: "Sessions | None" = None, *, shared: bool = False, of_request: bool = False
    ) -> None:
        super().__init__(outer, shared=shared, of_request=of_request)
        self.nested_turn = threading.Lock()
        self._thread = threading.get_ident()

    def is_of_this_thread(self) -> bool:
        """Whether the running thread opened this context."""
        return self._thread == threading.get_ident()

    def open(self, connect: DBConnect) -> Session:
        """The session of ``connect``. ContextNotInitiatedError: this context has ended."""
        if self.ended:
            raise ContextNotInitiatedError(
                "The context has ended; start a thread that outlives its request with "
                "run_in_new_ctx"
            )
        connect = self.aliases.get(connect.context_key, connect)
        if (joined := self.joined(connect)) is not None:
            return joined
        session = self.get(connect.context_key)
        if session is None:
            session = self[connect.context_key] = self.create(connect)
        elif not connect.is_usable(session):
            session = self.replace(connect, session, connect.renewed(session))
        return session

    def create(self, connect: DBConnect) -> Session:
        """A new session of ``connect`` outside of the container."""
        connect = self.aliases.get(connect.context_key, connect)
        factory = self.factories.get(connect.context_key)
        return connect.create_session() if factory is None else factory()

    def close_all(self) -> None:
        """Close every session; each connection is in its pool again, or dropped, on return."""
        close_sessions(self.everything())

    def end(self) -> None:
        """Close every session, because the code that opened this context leaves it."""
        self.ended = True
        try:
            self.close_all()
        finally:
            self.forget()
