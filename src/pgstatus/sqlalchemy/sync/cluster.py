# Generated from pgstatus/sqlalchemy/cluster.py: see `make unasync`.
"""Sessions that follow the cluster: each is created on the host that pg-status names."""

import time
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from sqlalchemy.orm import Session, sessionmaker

from pgstatus.bookmarks.bookmark import Bookmark, current_notes
from pgstatus.client import (
    Answer,
    ChosenHost,
    ClientError,
    Hosts,
    PgStatusClient,
)
from pgstatus.client.errors import WITHDRAWN
from pgstatus.routing.following import Question
from pgstatus.routing.reads import choose
from pgstatus.sqlalchemy.failures import has_connection, must_roll_back
from pgstatus.sqlalchemy.sync.cleanup import roll_back_session
from pgstatus.sqlalchemy.sync.connect import DBConnect, SessionMakerCreatorFunc
from pgstatus.sqlalchemy.sync.context import current_sessions_or_none
from pgstatus.sqlalchemy.sync.pools import Address, EngineCreator, Pool, Pools, callbacks_run_in

# How long a session without a transaction keeps its replica, in seconds.
KEEP_SECONDS = 1.0

_CHOICE = "pgstatus.choice"


class _Choice(NamedTuple):
    """What a session was created for: its pool, and the bookmark that it had to satisfy."""

    pool: Pool
    mark: Bookmark | None
    at: float
    """The time of the choice, by the monotonic clock."""


class PgStatusCluster:
    """The databases that one pg-status monitors. Create one for the lifetime of the application.

    engine_creator: returns the engine for ``(host, port)`` as reported by pg-status.
    session_maker_creator: returns the session maker for an engine, bound to that engine.
    name: distinguishes clusters in a client's bookmark; required if there are several.
    """

    def __init__(
        self,
        client: PgStatusClient,
        engine_creator: EngineCreator,
        session_maker_creator: SessionMakerCreatorFunc,
        *,
        name: str = "default",
    ) -> None:
        self.client = client
        self.name = name
        self.pools = Pools(engine_creator, session_maker_creator)
        self._connects: dict[tuple[object, ...], PgStatusConnect] = {}
        self._master: Address | None = None
        self._followed: tuple[PgStatusClient, object] | None = None

    def master(self) -> "PgStatusConnect":
        """Sessions on the current master; the same object for every call.

        The sessions raise NoHostError while there is no master, and SplitBrainError while
        pg-status is configured not to choose one of several.
        """
        connect = self._connects.get(())
        if connect is None:
            connect = self._connects.setdefault((), _MasterConnect(self))
        return connect

    def replica(
        self,
        *,
        lag_ms: int | None = None,
        lag_bytes: int | None = None,
        wait_ms: int | None = None,
        joins_master: bool = False,
    ) -> "PgStatusConnect":
        """Sessions on a replica within the limits, in rotation; on the master if there is none.

        The same object for every call with the same arguments. In a request that has written, or
        whose client has (see ReadYourWritesMiddleware), a replica is chosen that has these writes;
        ``wait_ms`` is how long pg-status may wait for one, by default as configured there.

        joins_master: while the context has an open transaction of ``master()``, use the session of
            that transaction, which sees its uncommitted writes.
        """
        key = lag_ms, lag_bytes, wait_ms, joins_master
        connect = self._connects.get(key)
        if connect is None:
            joins = self.master() if joins_master else None
            connect = self._connects.setdefault(
                key, _ReplicaConnect(self, lag_ms, lag_bytes, wait_ms, joins)
            )
        return connect

    def close(self) -> None:
        """Close every pool and the client; connections in use close when they are returned."""
        self._master = self._followed = None
        self.pools.close()
        self.client.close()

    def pool_of(self, chosen: ChosenHost) -> Pool:
        """The kept pool of this host."""
        self._follow()
        pool = self.pools.of(chosen)
        if pool.is_master and current_notes.get() is not None:
            pool.watch_writes(self.name)
        return pool

    def master_is(self, chosen: ChosenHost) -> None:
        """Remember the master that pg-status has just named; the pool of the previous one goes."""
        address = chosen.host, chosen.port
        if address != self._master:
            before, self._master = self._master, address
            if before is not None:
                self.pools.retire((before,))

    def _follow(self) -> None:
        """Have changes retire pools, also while no session is created."""
        followed = self.client, callbacks_run_in()
        if self._followed != followed:
            # The callbacks for a previous event loop, of a test suite for example, end with it.
            self._followed = followed
            self.client.on_change(_weakly(self._master_changed))
            self.client.on_change(_weakly(self._hosts_changed), "hosts")

    def _master_changed(self, answer: Answer) -> None:
        if answer.hosts:
            self.master_is(answer.hosts[0])

    def _hosts_changed(self, state: Hosts) -> None:
        if state.ready and not state.stale:
            alive = {(host.host, host.port) for host in state.hosts if host.alive}
            self.pools.keep(alive, has_master=state.master is not None)


class PgStatusConnect(DBConnect):
    """A DBConnect that chooses the host for each session. Created by a PgStatusCluster.

    ``host`` is the host of the last session. ClientError: pg-status cannot be queried.
    """

    def __init__(self, cluster: PgStatusCluster) -> None:
        super().__init__(_not_changeable, cluster.pools.session_maker_creator)
        self._cluster = cluster

    def session_maker(self) -> sessionmaker[Session]:
        """The session maker of the host that is right at this moment."""
        return (self._choose()).pool.maker

    def create_session(self) -> Session:
        """A new session, which the caller closes. It takes a connection at its first query."""
        return self._create()

    def connect(self, host: str) -> None:
        """RuntimeError: the host follows pg-status."""
        _not_changeable(host)

    def change_host(self, host: str) -> None:
        """RuntimeError: the host follows pg-status."""
        _not_changeable(host)

    def close(self) -> None:
        """Close the cluster, which is shared by all of its connects."""
        self._cluster.close()

    def is_usable(self, session: Session) -> bool:
        choice = _choice_of(session)
        if choice is None:
            return True  # created elsewhere, for example by a test
        if session.in_transaction():
            return not choice.pool.retired and not self._is_outdated(choice)
        return self._is_certain(choice)

    def renewed(self, session: Session) -> Session:
        choice = _choice_of(session)
        if choice is None:
            return session
        if session.in_transaction():
            if choice.pool.retired and must_roll_back(session):
                self._give_up_transaction(session, choice)
            elif choice.pool.retired and not has_connection(session):
                pass  # its objects are flushed to the host that is chosen now
            elif self._is_outdated(choice):
                # Its snapshot may be older than the write, and it may be in use by other code.
                return self._create(on_master=True)
            else:
                return session
        try:
            new = self._choose()
        except WITHDRAWN:
            raise
        except ClientError:
            if choice.pool.retired or self._is_outdated(choice):
                raise
            return session  # the host is not known to be wrong
        if new.pool is not choice.pool:
            new.pool.rebind(session)
        session.info[_CHOICE] = new
        return session

    def _create(self, *, on_master: bool = False) -> Session:
        choice = self._choose(on_master=on_master)
        session = choice.pool.maker()
        session.info[_CHOICE] = choice
        return session

    def _choose(self, *, on_master: bool = False) -> _Choice:
        mark = self._mark()
        chosen = self._chosen(mark, on_master=on_master)
        pool = self._cluster.pool_of(chosen)
        self.host = chosen.host
        return _Choice(pool, mark, time.monotonic())

    def _give_up_transaction(self, session: Session, choice: _Choice) -> None:
        """Roll back a transaction whose connection is lost, which the application has not done.

        The request must not be reported as successful, because what it wrote is lost.
        """
        roll_back_session(session)
        sessions = current_sessions_or_none()
        if sessions is not None and choice.pool.is_master:
            sessions.lost_transaction = True

    def _mark(self) -> Bookmark | None:
        notes = current_notes.get()
        return None if notes is None else notes.mark(self._cluster.name)

    def _chosen(self, mark: Bookmark | None, *, on_master: bool) -> ChosenHost:
        raise NotImplementedError

    def _is_outdated(self, choice: _Choice) -> bool:
        """Whether the request has written, or requires the master, since this choice."""
        raise NotImplementedError

    def _is_certain(self, choice: _Choice) -> bool:
        """Whether a session without a transaction may keep its host without a question."""
        raise NotImplementedError


class _MasterConnect(PgStatusConnect):
    def _chosen(self, mark: Bookmark | None, *, on_master: bool) -> ChosenHost:
        chosen = self._cluster.client.master()
        self._cluster.master_is(chosen)
        return chosen

    def _is_outdated(self, choice: _Choice) -> bool:
        return False

    def _is_certain(self, choice: _Choice) -> bool:
        return False


class _ReplicaConnect(PgStatusConnect):
    def __init__(
        self,
        cluster: PgStatusCluster,
        lag_ms: int | None,
        lag_bytes: int | None,
        wait_ms: int | None,
        joins: DBConnect | None,
    ) -> None:
        super().__init__(cluster)
        self.joins = joins
        self._question = Question("replica", lag_ms, lag_bytes)
        self._wait_ms = wait_ms

    def _chosen(self, mark: Bookmark | None, *, on_master: bool) -> ChosenHost:
        client = self._cluster.client
        if on_master or _master_is_required():
            return client.master()
        return choose(client, self._question, mark, self._wait_ms)

    def _is_outdated(self, choice: _Choice) -> bool:
        if choice.pool.is_master:
            return False
        return _master_is_required() or choice.mark != self._mark()

    def _is_certain(self, choice: _Choice) -> bool:
        return (
            time.monotonic() < choice.at + KEEP_SECONDS
            and not choice.pool.retired
            and not self._is_outdated(choice)
        )


def _weakly(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """A callback that does not keep the object of the method."""
    reference = weakref.WeakMethod(method)

    def call(state: Any) -> None:
        method = reference()
        if method is not None:
            method(state)

    return call


def _choice_of(session: Session) -> _Choice | None:
    choice: _Choice | None = session.info.get(_CHOICE)
    return choice


def _master_is_required() -> bool:
    sessions, notes = current_sessions_or_none(), current_notes.get()
    return (sessions is not None and sessions.master_only) or (
        notes is not None and notes.master_only
    )


def _not_changeable(_: str) -> NoReturn:
    raise RuntimeError("this connection follows pg-status; its host cannot be changed")
