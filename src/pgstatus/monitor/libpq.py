"""Two functions of libpq that psycopg does not offer in this form.

``PQconnectPoll`` may block, and psycopg holds the interpreter lock while it runs; a call through
ctypes releases it. ``PQsetErrorVerbosity`` is missing in psycopg.
"""

import ctypes
import ctypes.util
import sys
from functools import cache
from pathlib import Path

from psycopg import pq

_VERBOSE = 2


def connect_poll(pgconn: pq.abc.PGconn) -> pq.PollingStatus:
    """Continue to connect; see ``PQconnectPoll``."""
    return pq.PollingStatus(_libpq().PQconnectPoll(_pointer(pgconn)))


def show_sqlstate(pgconn: pq.abc.PGconn) -> None:
    """Have messages contain the SQLSTATE: of a rejected login libpq offers it nowhere else."""
    _libpq().PQsetErrorVerbosity(_pointer(pgconn), _VERBOSE)


def _pointer(pgconn: pq.abc.PGconn) -> ctypes.c_void_p:
    return ctypes.c_void_p(pgconn.pgconn_ptr)  # type: ignore[attr-defined]


@cache
def _libpq() -> ctypes.CDLL:
    """The library that psycopg has loaded."""
    if pq.__impl__ == "binary":
        # The wheel contains a copy, which the dynamic linker does not find by name.
        package = Path(str(sys.modules["psycopg_binary"].__file__)).parent
        path = next(package.with_name("psycopg_binary.libs").glob("libpq-*"))
        return ctypes.CDLL(str(path))
    return ctypes.CDLL(ctypes.util.find_library("pq"))
