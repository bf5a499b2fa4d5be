"""Two functions of libpq that psycopg does not offer in this form.

``PQconnectPoll`` may block, and psycopg holds the interpreter lock while it runs; a call through
ctypes releases it. ``PQsetErrorVerbosity`` is missing in psycopg.
"""

import ctypes
import ctypes.util
import re
from contextlib import suppress
from functools import cache
from pathlib import Path

from psycopg import pq

_VERBOSE = 2
_BUNDLE = "psycopg_binary.libs"
_FILE = re.compile(r"/.*/libpq[-.].*$", re.MULTILINE)


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
    return ctypes.CDLL(_path())


def _path() -> str | None:
    """The library that psycopg has loaded: a copy within its wheel, or that of the system."""
    loaded: set[str] = set()
    with suppress(OSError):
        loaded = set(_FILE.findall(Path("/proc/self/maps").read_text()))
    # Other modules may have loaded a copy within a wheel of their own, such as psycopg2.
    is_bundled = pq.__impl__ == "binary"
    for path in loaded:
        directory = Path(path).parent.name
        if directory == _BUNDLE if is_bundled else not directory.endswith(".libs"):
            return path
    return ctypes.util.find_library("pq")
