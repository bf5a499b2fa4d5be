"""Many threads take connections at the same time."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pgstatus.client import PgStatusClient
from pgstatus.demo.cluster import Cluster
from pgstatus.psycopg import Pools
from tests.pools.application import CONNINFO
from tests.support.daemon import Daemon

THREADS = 8


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("frequent_switches")
def test_threads_ask_and_take_connections(daemon: Daemon, cluster: Cluster) -> None:
    with (
        PgStatusClient(daemon.url, deadline=10.0) as client,
        Pools(client, CONNINFO, max_size=4) as pools,
    ):

        def use(_: int) -> int:
            for _ in range(300):
                client.master()
            for _ in range(10):
                with pools.replica().connection() as connection:
                    connection.execute("SELECT 1")
            return 1

        with ThreadPoolExecutor(THREADS) as threads:
            assert sum(threads.map(use, range(THREADS))) == THREADS
        stats = pools.get_stats()
        assert set(stats) == {f"{each.address}:{each.port}" for each in cluster.replicas}
        assert sum(each["requests_num"] for each in stats.values()) >= 10 * THREADS
        assert all(each["pool_size"] <= 4 for each in stats.values())
