"""The database backend: PostgreSQL's, whose connections use the hosts that pg-status reports.

The host is compared with the choice of this moment before each transaction, and before each
statement outside of one. A transaction is never moved.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from weakref import WeakSet

import psycopg
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base as postgresql
from django.db.transaction import TransactionManagementError
from django.utils.asyncio import async_unsafe
from django.utils.functional import cached_property
from psycopg.pq import TransactionStatus

from pgstatus.client import ClientError
from pgstatus.client.errors import WITHDRAWN
from pgstatus.django import options
from pgstatus.django.choice import Choice, MasterChoice, ReplicaChoice
from pgstatus.django.cluster import Cluster, cluster_of
from pgstatus.django.creation import DatabaseCreation
from pgstatus.django.failures import Failures, loses
from pgstatus.django.host import Host
from pgstatus.django.shell import DatabaseClient
from pgstatus.django.writes import Writes

# How long a read waits for a host that accepts connections, and between attempts, in seconds.
PATIENCE = 1.0
PAUSE = 0.05


class _Idle(NamedTuple):
    """An open connection to another replica than the one in use."""

    connection: "psycopg.Connection[Any]"
    close_at: float | None


class DatabaseWrapper(postgresql.DatabaseWrapper):
    """The connections of one thread and one alias."""

    client_class = DatabaseClient
    creation_class = DatabaseCreation

    def __init__(self, settings_dict: dict[str, Any], alias: str = DEFAULT_DB_ALIAS) -> None:
        super().__init__(settings_dict, alias)
        self._host: Host | None = None
        self._idle: dict[Host, _Idle] = {}
        self._server_cursors: WeakSet[Any] = WeakSet()
        self._choice: Choice | None = None
        self._is_reading = False
        self.ops.compiler_module = "pgstatus.django.compiler"
        test = settings_dict.get("TEST", {})
        if options.follows(settings_dict) and not test.get("MIRROR"):
            master = options.master_of(alias, connections.settings)
            if master not in {None, alias}:
                test["MIRROR"] = master

    @cached_property
    def pg_status_options(self) -> options.Options:
        """ImproperlyConfigured: names each problem of the settings."""
        return options.Options.of(self.alias, self.settings_dict)

    def forget_options(self) -> None:
        """The settings have been changed."""
        self.__dict__.pop("pg_status_options", None)
        self._choice = None

    @property
    def pg_status(self) -> Cluster:
        """The client, and what this process knows about the hosts."""
        return cluster_of(self.pg_status_options)

    @property
    def host(self) -> str | None:
        """``name:port`` of the host that the open connection uses."""
        if self.connection is None or self._host is None:
            return None
        return self._host.name

    @property
    def choice(self) -> Choice:
        """Which host to use."""
        choice, cluster = self._choice, self.pg_status
        if choice is None or choice.cluster is not cluster:  # a forked process has its own
            # Without a database, one is created.
            if self.pg_status_options.role == "master" or self.alias == NO_DB_ALIAS:
                choice = MasterChoice(cluster)
            else:
                choice = ReplicaChoice(cluster, self._master_alias, self.pg_status_options)
            self._choice = choice
        return choice

    @cached_property
    def _master_alias(self) -> str:
        return options.master_of(self.alias, connections.settings) or self.alias

    @cached_property
    def _writes(self) -> Writes | None:
        """None: no replica is configured, so no read can miss a write."""
        has_replica = self._master_alias in options.replicas(connections.settings).values()
        return Writes(self._master_alias) if has_replica else None

    @cached_property
    def wrap_database_errors(self) -> Failures:
        return Failures(self)

    def get_connection_params(self) -> dict[str, Any]:
        """To the host that is right at this moment."""
        params = super().get_connection_params()
        params.pop(options.NAME)
        params["host"], params["port"] = self.choose().address
        return params

    def get_new_connection(self, conn_params: dict[str, Any]) -> "psycopg.Connection[Any]":
        host = self._host or self.choose()
        idle = self._idle.pop(host, None)
        if idle is not None:
            if not self.settings_dict["CONN_HEALTH_CHECKS"] or _responds(idle.connection):
                self.close_at = idle.close_at
                return idle.connection
            idle.connection.close()
        conn_params["host"], conn_params["port"] = host.address
        connection: psycopg.Connection[Any] = super().get_new_connection(conn_params)
        self.pg_status.connections.add(connection, host)
        return connection

    @async_unsafe
    def connect(self) -> None:
        """Nothing was sent yet, so other hosts are tried.

        Until the crash of a master is confirmed, it may be named for reads too: they are tried
        again for a moment. Writes fail at once.
        """
        is_reader = self.pg_status_options.role == "replica"
        give_up_at = time.monotonic() + PATIENCE if is_reader else 0.0
        tried = set()
        host = self._host = self.choose()
        while True:
            try:
                super().connect()
            except psycopg.OperationalError as error:  # noqa: PERF203  # each host may fail
                if not loses(error, self.connection, is_master=host.is_master):
                    raise
                self.pg_status.lose(host)
                tried.add(host.address)
                host = self._host = self.choose()
                if host.address in tried:
                    if time.monotonic() >= give_up_at:
                        raise
                    time.sleep(PAUSE)
            else:
                return

    @async_unsafe
    def close(self) -> None:
        super().close()
        for idle in self._idle.values():
            idle.connection.close()
        self._idle.clear()

    def close_if_unusable_or_obsolete(self) -> None:
        """At the beginning and the end of a request."""
        super().close_if_unusable_or_obsolete()
        self._close_obsolete()
        if not self.in_atomic_block:
            self.choice.forget()
            if self.connection is not None and self.pg_status_options.role == "replica":
                self._set_aside()
            with suppress(OperationalError):
                self.follow()

    def set_autocommit(
        self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False
    ) -> None:
        if not autocommit:
            self.follow()
        super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)

    def choose(self) -> Host:
        """The host that is right at this moment. OperationalError: there is none."""
        try:
            return self.choice.host()
        except ClientError as error:
            raise _operational(error) from error

    def follow(self) -> None:
        """Give up the open connection if its host is not the right one, unless it is in use.

        OperationalError: there is no right one.
        """
        if self.connection is None or self._host is None or self._is_in_use():
            return
        try:
            host = self.choice.host()
        except WITHDRAWN as error:
            raise _operational(error) from error
        except ClientError:
            if not self.pg_status.is_lost(self._host):
                return  # the host is not known to be wrong
            host = None
        if host != self._host:
            self._set_aside()

    def is_open(self) -> bool:
        """Whether the next statement needs no other connection."""
        try:
            self.follow()
        except OperationalError:
            return False
        return self.connection is not None

    def is_on_replica(self) -> bool:
        """Whether the next statement will be sent to a replica. OperationalError: to no host."""
        if self.connection is not None and self._host is not None:
            self.follow()
            if self.connection is not None:
                return not self._host.is_master
        return not self.choose().is_master

    def failed(self, error: BaseException) -> None:
        """An error of psycopg: the connections to this host may be unusable, in all threads."""
        if self._host is None:
            return
        if loses(error, self.connection, is_master=self._host.is_master):
            self.pg_status.lose(self._host)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A query of the ORM: outside of a transaction, it does not count as a write."""
        before, self._is_reading = self._is_reading, True
        try:
            yield
        finally:
            self._is_reading = before

    def note_writes(self) -> None:
        """Complete the bookmark of the request with what this connection has committed."""
        if self._writes is not None and self.connection is not None:
            self._writes.note(self.connection)

    def _cursor(self, name: str | None = None) -> Any:
        self.follow()
        self.close_if_health_check_failed()
        self.ensure_connection()
        is_read = self.autocommit and self._is_reading
        if self._writes is not None and self._host and self._host.is_master and not is_read:
            self._writes.begin(commits_itself=self.autocommit)
        cursor = super()._cursor(name)  # type: ignore[misc]
        if name is not None:
            self._server_cursors.add(cursor.cursor)
        return cursor

    def _commit(self) -> None:
        if self.connection is not None:
            if self.connection.info.transaction_status == TransactionStatus.INERROR:
                raise TransactionManagementError(
                    "A statement of this transaction has failed, so COMMIT would roll it back. "
                    "Run a statement that may fail in an atomic block of its own."
                )
            if self._writes is not None:
                with self.wrap_database_errors:
                    self._writes.commit(self.connection)
        super()._commit()  # type: ignore[misc]

    def _rollback(self) -> None:
        super()._rollback()  # type: ignore[misc]
        if self._writes is not None:
            self._writes.roll_back()

    def _close(self) -> None:
        if not self.in_atomic_block:
            self.note_writes()
        super()._close()  # type: ignore[misc]

    def _is_in_use(self) -> bool:
        return (
            self.in_atomic_block
            or self.autocommit != self.settings_dict["AUTOCOMMIT"]
            or self.connection.info.transaction_status
            in {TransactionStatus.INTRANS, TransactionStatus.INERROR, TransactionStatus.ACTIVE}
            or any(not cursor.closed for cursor in self._server_cursors)
        )

    def _set_aside(self) -> None:
        """Close the connection; for reads it is kept, because its host may be chosen again."""
        host, is_reader = self._host, self.pg_status_options.role == "replica"
        if host is None or not is_reader or self.pg_status.is_lost(host):
            super().close()
            return
        self._idle[host] = _Idle(self.connection, self.close_at)
        self.connection = None

    def _close_obsolete(self) -> None:
        now = time.monotonic()
        for host, idle in tuple(self._idle.items()):
            is_old = idle.close_at is not None and now >= idle.close_at
            if is_old or self.pg_status.is_lost(host):
                del self._idle[host]
                idle.connection.close()


def _responds(connection: "psycopg.Connection[Any]") -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def _operational(error: ClientError) -> OperationalError:
    """What applications of Django expect if there is no connection."""
    return OperationalError(f"pg-status: {error}")
