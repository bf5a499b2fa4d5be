"""The load program with the stacks of the pools, without failures."""

import pytest
from bench.stacks.load import Task
from bench.stacks.report import HEADER, row
from bench.stacks.stack import Place
from bench.stacks.worker import Worker

from pgstatus.demo.cluster import PASSWORD, Cluster
from tests.support.daemon import Daemon

STACKS = ("asyncpg_pools", "psycopg_async", "psycopg_threads")


@pytest.mark.parametrize("stack", STACKS)
def test_pairs(stack: str, cluster: Cluster, daemon: Daemon) -> None:
    place = Place(
        url=daemon.url,
        hosts=tuple(server.address for server in cluster.servers),
        port=cluster.primary.port,
        user="postgres",
        password=PASSWORD,
        dbname="postgres",
        users=2,
        lag_ms=1000,
    )
    first = (STACKS.index(stack) + 1) * 1_000_000_000
    worker = Worker(Task(stack, place, first, pause=0.0, pairs=6))
    worker.wait_until_ready()
    operations = worker.operations()
    line = row(
        "pairs",
        stack,
        operations,
        reported=None,
        master=cluster.primary.address,
        late=("", 0.0, 0.0),
    )
    figures = dict(zip(HEADER, line, strict=True))
    assert figures["writes"] == figures["reads"] == "6"
    assert figures["not found"] == "0"
    assert not figures["errors"]
