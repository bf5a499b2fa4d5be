"""What an error of psycopg means for the connections to its host."""

from typing import Any

import psycopg
from django.db.utils import DatabaseErrorWrapper

_READ_ONLY_TRANSACTION = "25006"
# Connection exceptions, and the ways in which a server announces that it is ending or starting.
_LOST = ("08", "57P01", "57P02", "57P03")


def is_read_only(error: BaseException) -> bool:
    """The server, or the transaction, rejects writes."""
    return isinstance(error, psycopg.Error) and error.sqlstate == _READ_ONLY_TRANSACTION


def is_lost(error: BaseException, connection: "psycopg.Connection[Any] | None") -> bool:
    """Whether a connection, or the attempt to open one (``connection`` is None), is lost."""
    if not isinstance(error, psycopg.Error):
        return False
    if (error.sqlstate or "").startswith(_LOST):
        return True
    if connection is not None:
        return connection.closed
    # A server that rejects the login is not lost.
    return isinstance(error, psycopg.OperationalError) and "FATAL:" not in str(error)


class Failures(DatabaseErrorWrapper):
    """Reports each error of psycopg to the connection before Django translates it."""

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        if exc_value is not None:
            self.wrapper.failed(exc_value)  # type: ignore[attr-defined]
        super().__exit__(exc_type, exc_value, traceback)
