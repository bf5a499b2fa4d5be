"""The client of pg-status, for threads and for asyncio.

It needs the extra ``client``, as in ``pip install '.[client]'``, and nothing of the daemon.
"""

try:
    import httpcore2 as _httpcore2  # noqa: F401
except ImportError as error:
    raise ImportError(
        "pgstatus.client needs the extra 'client', as in pip install '.[client]'"
    ) from error

from pgstatus.client.asynchronous import AsyncPgStatusClient
from pgstatus.client.model import ChosenHost, HostStatus, Role
from pgstatus.client.synchronous import PgStatusClient
from pgstatus.errors import (
    ClientError,
    DeadlineError,
    NoHostError,
    NotReadyError,
    RefusedError,
    SplitBrainError,
    UnreachableError,
)
from pgstatus.lsn import parse_lsn

__all__ = [
    "AsyncPgStatusClient",
    "ChosenHost",
    "ClientError",
    "DeadlineError",
    "HostStatus",
    "NoHostError",
    "NotReadyError",
    "PgStatusClient",
    "RefusedError",
    "Role",
    "SplitBrainError",
    "UnreachableError",
    "parse_lsn",
]
