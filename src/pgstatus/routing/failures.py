"""What an error of a driver means for the pool of its host.

The errors of asyncpg and psycopg have the attribute ``sqlstate``, those of psycopg2 ``pgcode``; it
is None if the server has not sent one.
"""

READ_ONLY_TRANSACTION = "25006"
# Connection exceptions, and the ways in which a server announces that it is ending or starting.
LOST = ("08", "57P01", "57P02", "57P03")


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of a driver's error; empty if it has none."""
    return str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")


def is_lost(error: BaseException) -> bool:
    """Whether the error means that the connection, or its server, is lost."""
    return isinstance(error, ConnectionError) or sqlstate(error).startswith(LOST)


def retires(error: BaseException, *, is_master: bool, is_closed: bool = False) -> bool:
    """Whether the pool of a host must not be used any more after this error of a statement.

    is_master: the connection was taken as one to the master. A replica rejects every write: there,
        25006 is an error of the application.
    is_closed: the connection is closed since.
    """
    if sqlstate(error) == READ_ONLY_TRANSACTION:
        return is_master
    return is_closed or is_lost(error)


def cannot_connect(error: BaseException) -> bool:
    """Whether no server responded. A server that rejects the login is not lost."""
    state = sqlstate(error)
    return state.startswith(LOST) if state else "FATAL:" not in str(error)
