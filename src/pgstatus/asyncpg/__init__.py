"""Pools of asyncpg that follow the cluster."""

try:
    import asyncpg as _asyncpg  # noqa: F401
except ImportError as error:
    raise ImportError(
        "pgstatus.asyncpg needs the extra 'asyncpg': pip install 'pg-status-client[asyncpg]'"
    ) from error

from pgstatus.asyncpg.connection import Connection
from pgstatus.asyncpg.pools import Pool, Pools
from pgstatus.bookmarks.bookmark import Bookmark

__all__ = ["Bookmark", "Connection", "Pool", "Pools"]
