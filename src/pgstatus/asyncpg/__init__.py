"""Pools of asyncpg that follow the cluster."""

from pgstatus.asyncpg.connection import Connection
from pgstatus.asyncpg.pools import Pool, Pools

__all__ = ["Connection", "Pool", "Pools"]
