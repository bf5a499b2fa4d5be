"""What an error of a driver means for the pool of its host.

The errors of asyncpg and psycopg have the attribute ``sqlstate``, those of psycopg2 ``pgcode``; it
is None if the server has not sent one.
"""

import re

READ_ONLY_TRANSACTION = "25006"
# Connection exceptions, and the ways in which a server announces that it is ending or starting.
LOST = ("08", "57P01", "57P02", "57P03")
INSUFFICIENT_RESOURCES = "53"
# libpq reports no SQLSTATE for an attempt to connect. It adds the first of these to each error of
# the operating system; the last ones are messages of a server that cannot serve yet, or not now.
_TRANSIENT = re.compile(
    "Is the server running|timeout expired|timed out|resolve host|translate host name"
    "|closed the connection|SYSCALL error|could not (receive|send) |reset by peer|Broken pipe"
    "|starting up|shutting down|recovery mode|not (yet )?accepting connections"
    "|terminating connection|too many|connection slots"
)


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


def is_transient(error: BaseException) -> bool:
    """Whether the same attempt to connect may succeed later, without a change of any setting."""
    state = sqlstate(error)
    if state:
        return state.startswith((*LOST, INSUFFICIENT_RESOURCES))
    return isinstance(error, OSError) or _TRANSIENT.search(str(error)) is not None
