"""Sends the reads of requests to replicas."""

from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from pgstatus.bookmarks.bookmark import current_notes
from pgstatus.django.base import DatabaseWrapper
from pgstatus.django.choice import requires_master
from pgstatus.django.options import master_of, replicas


class ReplicaRouter:
    """Reads use a replica, unless the master is required; everything else uses the master.

    Required it is outside of requests, in an atomic block of the master, after a write of the same
    request, after `use_master`, and if no replica has what the client wrote before.
    """

    def master_for(self, model: type[Model]) -> str:
        """The alias of the master of ``model``; override it if there are several clusters."""
        return DEFAULT_DB_ALIAS

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        master = self._master(model, hints)
        replica = None if master is None else _replica_of(master)
        notes = current_notes.get()
        if master is None or replica is None or notes is None:
            return master
        if requires_master(notes, master) or _is_in_transaction(connections[master]):
            return master
        reader, writer = connections[replica], connections[master]
        if not isinstance(reader, DatabaseWrapper) or not isinstance(writer, DatabaseWrapper):
            return master  # a mirror, in tests
        # Without a replica, reads share an open connection to the master.
        return replica if reader.is_on_replica() or not writer.is_open() else master

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        return self._master(model, hints)

    def allow_relation(self, first: Model, second: Model, **hints: Any) -> bool | None:
        """Between objects of one cluster, whichever host they were read from."""
        masters = [
            master_of(each._state.db or "", connections.settings) for each in (first, second)
        ]
        return True if masters[0] is not None and masters[0] == masters[1] else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """A replica receives the changes of its master."""
        return False if db in replicas(connections.settings) else None

    def _master(self, model: type[Model], hints: dict[str, Any]) -> str | None:
        """None: the database does not follow a pg-status."""
        instance = hints.get("instance")
        alias = (instance._state.db if instance is not None else None) or self.master_for(model)
        return master_of(alias, connections.settings)


def _is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Including one that was begun with ``set_autocommit(False)``."""
    return connection.in_atomic_block or (
        connection.connection is not None
        and connection.autocommit != connection.settings_dict["AUTOCOMMIT"]
    )


def _replica_of(master: str) -> str | None:
    for replica, its_master in replicas(connections.settings).items():
        if its_master == master:
            return replica
    return None
