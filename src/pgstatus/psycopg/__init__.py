"""Pools of psycopg that follow the cluster, for asyncio and for threads."""

try:
    import psycopg_pool as _psycopg_pool  # noqa: F401
except ImportError as error:
    raise ImportError(
        "pgstatus.psycopg needs the extra 'psycopg': pip install 'pg-status-client[psycopg]'"
    ) from error

from pgstatus.bookmarks.bookmark import Bookmark
from pgstatus.psycopg.connection import Connection
from pgstatus.psycopg.connection_async import AsyncConnection
from pgstatus.psycopg.pools import Pool, Pools
from pgstatus.psycopg.pools_async import AsyncPool, AsyncPools

__all__ = [
    "AsyncConnection",
    "AsyncPool",
    "AsyncPools",
    "Bookmark",
    "Connection",
    "Pool",
    "Pools",
]
