"""What an error of psycopg means for the connections to its host."""

from typing import Any

import psycopg
from django.db.utils import DatabaseErrorWrapper

from pgstatus.routing.failures import cannot_connect, retires


def loses(
    error: BaseException, connection: "psycopg.Connection[Any] | None", *, is_master: bool
) -> bool:
    """Whether no connection to the host may be used any more. ``connection``: None if not open."""
    if not isinstance(error, psycopg.Error):
        return False
    if connection is None:
        return isinstance(error, psycopg.OperationalError) and cannot_connect(error)
    return retires(error, is_master=is_master, is_closed=connection.closed)


class Failures(DatabaseErrorWrapper):
    """Reports each error of psycopg to the connection before Django translates it."""

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        if exc_value is not None:
            self.wrapper.failed(exc_value)  # type: ignore[attr-defined]
        super().__exit__(exc_type, exc_value, traceback)
