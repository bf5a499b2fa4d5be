"""Positions are answered by the replicas in turn, also where answers are reused or shared.

pg-status does not name a replica whose check takes long, as on a busy machine: then the calls are
repeated.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from pgstatus.demo.cluster import Cluster
from tests.client.support import Asker, AskerFactory
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("patient")

COUNT = 200


@pytest.fixture
def ask(daemon: Daemon, make_asker: AskerFactory) -> Callable[[], Asker]:
    """A new client, which has no previous answers."""
    return lambda: make_asker(daemon.url, max_age=60)


def are_even(cluster: Cluster, chosen: list[Any]) -> bool:
    hosts = Counter(each.host for each in chosen)
    addresses = {replica.address for replica in cluster.replicas}
    return set(hosts) == addresses and max(hosts.values()) - min(hosts.values()) <= COUNT / 5


@pytest.mark.parametrize(
    "arguments",
    [[{"min_lsn": "0/1"}] * COUNT, [{"min_lsn": f"0/{n:X}"} for n in range(1, COUNT + 1)]],
    ids=["one position", "different positions"],
)
def test_a_burst_of_callers(
    cluster: Cluster, ask: Callable[[], Asker], arguments: list[dict[str, Any]]
) -> None:
    """The responses to the first burst arrive in any order."""

    def second_burst_is_even() -> bool:
        client = ask()
        client.burst("replica", arguments)
        return are_even(cluster, client.burst("replica", arguments))

    wait_until("the callers are divided evenly", second_burst_is_even)


@pytest.mark.parametrize("position", ["0/1", "1:0/1"])
def test_one_caller_after_another(
    cluster: Cluster, ask: Callable[[], Asker], position: str
) -> None:
    def calls_are_even() -> bool:
        client = ask()
        client("replica")
        calls = [client("replica", min_lsn=position) for _ in range(COUNT)]
        return are_even(cluster, calls)

    wait_until("the calls are divided evenly", calls_are_even)


def test_a_fresh_position_after_each_write(cluster: Cluster, ask: Callable[[], Asker]) -> None:
    """The replica that replays first serves the callers until the others have replayed, too."""
    client = ask()

    def both_serve() -> bool:
        ((lsn,),) = cluster.primary.sql("SELECT pg_logical_emit_message(true, 'test', 'x')::text")
        burst = [{"min_lsn": lsn, "wait_ms": 2000}] * (COUNT // 10)
        hosts = {each.host for each in client.burst("replica", burst)}
        return hosts == {replica.address for replica in cluster.replicas}

    wait_until("both replicas serve the callers after one write", both_serve)
