"""The alias of a replica in tests: the master's connection, with the transaction of the test."""

from contextlib import AbstractContextManager
from typing import Any

from django.db import connections

# Tests of Django replace these methods of the aliases that they do not declare.
_OWN = {"connect", "cursor", "chunked_cursor", "temporary_connection"}


class Mirror:
    """Everything else is that of the master's connection."""

    def __init__(self, connection: Any, master: str) -> None:
        vars(self).update(
            alias=connection.alias,
            creation=connection.creation,
            settings_dict=connection.settings_dict,
            _master=master,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(connections[self._master], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            vars(self)[name] = value
        else:
            setattr(connections[self._master], name, value)

    def connect(self) -> None:
        connections[self._master].connect()

    def cursor(self) -> Any:
        return connections[self._master].cursor()

    def chunked_cursor(self) -> Any:
        return connections[self._master].chunked_cursor()

    def temporary_connection(self) -> AbstractContextManager[Any]:
        return connections[self._master].temporary_connection()
