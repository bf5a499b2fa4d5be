"""What the pools that follow the cluster add to the pools of the libraries.

``python -m bench.pools_overhead`` takes and returns a connection many times, without a query and
with ``SELECT 1``, in turn with each pool, and prints the CPU time of the best round.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import asyncpg
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool
from tests.support.clusters import Clusters
from tests.support.daemon import Daemon

import pgstatus.asyncpg
import pgstatus.psycopg
from bench.table import markdown
from pgstatus.client import AsyncPgStatusClient
from pgstatus.demo.cluster import PASSWORD, Cluster
from pgstatus.demo.network import Network, free_port

ROUNDS, TIMES = 7, 300


async def seconds(take: Callable[[], Any], query: str) -> float:
    """The CPU time of one use of a connection."""
    began = time.process_time()
    for _ in range(TIMES):
        async with take() as connection:
            if query:
                await connection.execute(query)
    return (time.process_time() - began) / TIMES


async def measure(cluster: Cluster, url: str) -> list[list[str]]:
    user: dict[str, Any] = {"user": "postgres", "password": PASSWORD}
    server: dict[str, Any] = {"host": cluster.primary.address, "port": cluster.primary.port}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        client = await enter(AsyncPgStatusClient(url))
        conninfo = make_conninfo(dbname="postgres", **user)
        plain = await enter(AsyncConnectionPool(make_conninfo(conninfo, **server), open=False))
        ours = await enter(pgstatus.psycopg.AsyncPools(client, conninfo))
        plain_asyncpg = await enter(
            asyncpg.create_pool(database="postgres", min_size=1, **user, **server)
        )
        ours_asyncpg = await enter(pgstatus.asyncpg.Pools(client, database="postgres", **user))
        pools: dict[str, Callable[[], Any]] = {
            "psycopg_pool": plain.connection,
            "pgstatus.psycopg": ours.master().connection,
            "asyncpg": plain_asyncpg.acquire,
            "pgstatus.asyncpg": ours_asyncpg.master().acquire,
        }
        lines = []
        for query in ("", "SELECT 1"):
            best = dict.fromkeys(pools, float("inf"))
            for _ in range(ROUNDS):
                for name, take in pools.items():
                    best[name] = min(best[name], await seconds(take, query))
            lines += [[name, query, f"{each * 1e6:.0f} µs"] for name, each in best.items()]
    return lines


def main() -> None:
    with ExitStack() as undo:
        network = Network()
        undo.callback(network.release)
        clusters = Clusters(network)
        undo.callback(clusters.close)
        cluster = clusters.make(replicas=0)
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="pg-status-bench-")))
        address = network.address(1)
        variables = {"hosts": cluster.primary.address, "pg_port": cluster.primary.port}
        port = free_port([address], 8000)
        daemon = Daemon(directory / "log", variables, address=address, port=port)
        lines = asyncio.run(measure(cluster, undo.enter_context(daemon).url))
    sys.stdout.write(markdown(["pool", "query", "CPU time"], lines))


if __name__ == "__main__":
    main()
