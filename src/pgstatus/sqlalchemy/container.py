"""What a context holds, whether its code runs in tasks or in threads."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

_NONE: Mapping[str, Any] = MappingProxyType({})


class _Session(Protocol):
    def in_transaction(self) -> bool: ...


class _Connect(Protocol):
    context_key: str

    @property
    def joins(self) -> "_Connect | None": ...


SessionT = TypeVar("SessionT", bound=_Session)
ConnectT = TypeVar("ConnectT", bound=_Connect)
FactoryT = TypeVar("FactoryT")


class Container(dict[str, SessionT], Generic[SessionT, ConnectT, FactoryT]):
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
        self,
        outer: "Container[SessionT, ConnectT, FactoryT] | None",
        *,
        shared: bool,
        of_request: bool,
    ) -> None:
        super().__init__()
        self.factories: Mapping[str, FactoryT] = _NONE if outer is None else outer.factories
        self.aliases: Mapping[str, ConnectT] = _NONE if outer is None else outer.aliases
        self.master_only: bool = outer is not None and outer.master_only
        self.shared = shared
        self.of_request = of_request
        self.lost_transaction = False
        self.ended = False
        self._set_aside: tuple[SessionT, ...] = ()

    def everything(self) -> tuple[SessionT, ...]:
        """All sessions that the end of this context commits or rolls back, and closes."""
        return (*self.values(), *self._set_aside)

    def joined(self, connect: ConnectT) -> SessionT | None:
        """The session to use instead of one of ``connect``: its transaction is open."""
        if connect.joins is None:
            return None
        writing = self.get(connect.joins.context_key)
        return writing if writing is not None and writing.in_transaction() else None

    def replace(self, connect: ConnectT, session: SessionT, renewed: SessionT) -> SessionT:
        """Use ``renewed`` from now on, which may be the same session."""
        if renewed is not session:
            # Code that still refers to the old session, such as a cursor being read, may continue.
            self._set_aside = (*self._set_aside, session)
            self[connect.context_key] = renewed
        return renewed

    def forget(self) -> None:
        """The sessions are closed."""
        self.clear()
        self._set_aside = ()
