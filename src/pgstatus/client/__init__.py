"""The client of pg-status, for threads and for asyncio.

It belongs to the distribution ``pg-status-client`` and imports nothing of the daemon.
"""

try:
    import httpcore2 as _httpcore2  # noqa: F401
except ImportError as error:
    raise ImportError(
        "pgstatus.client needs the extra 'client', as in pip install 'pg-status[client]'; or "
        "pip install pg-status-client"
    ) from error

from pgstatus.client.asynchronous import AsyncPgStatusClient
from pgstatus.client.errors import (
    ClientError,
    DeadlineError,
    NoHostError,
    NotReadyError,
    RefusedError,
    SplitBrainError,
    UnreachableError,
)
from pgstatus.client.lsn import parse_lsn
from pgstatus.client.model import Answer, ChosenHost, Hosts, HostStatus, Role
from pgstatus.client.synchronous import PgStatusClient

__all__ = [
    "Answer",
    "AsyncPgStatusClient",
    "ChosenHost",
    "ClientError",
    "DeadlineError",
    "HostStatus",
    "Hosts",
    "NoHostError",
    "NotReadyError",
    "PgStatusClient",
    "RefusedError",
    "Role",
    "SplitBrainError",
    "UnreachableError",
    "parse_lsn",
]
