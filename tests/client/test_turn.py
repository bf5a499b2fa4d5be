"""Positions are answered by the replicas in turn, also where answers are reused or shared."""

from collections import Counter

import pytest

from pgstatus.demo.cluster import Cluster
from tests.client.support import AskerFactory
from tests.conftest import DaemonFactory

pytestmark = pytest.mark.usefixtures("patient")

COUNT = 200


@pytest.fixture
def url(cluster: Cluster, make_daemon: DaemonFactory) -> str:
    return make_daemon(cluster, sleep_ms=100).url


def assert_even(cluster: Cluster, hosts: "Counter[str]") -> None:
    assert set(hosts) == {replica.address for replica in cluster.replicas}
    assert max(hosts.values()) - min(hosts.values()) <= COUNT / 5, hosts


def test_a_burst_of_callers_with_one_position(
    cluster: Cluster, url: str, make_asker: AskerFactory
) -> None:
    ask = make_asker(url, deadline=10)
    chosen = ask.burst("replica", [{"min_lsn": "0/1"}] * COUNT)
    assert_even(cluster, Counter(each.host for each in chosen))


def test_a_burst_of_callers_with_different_positions(
    cluster: Cluster, url: str, make_asker: AskerFactory
) -> None:
    ask = make_asker(url, deadline=10)
    chosen = ask.burst("replica", [{"min_lsn": f"0/{n:X}"} for n in range(1, COUNT + 1)])
    assert_even(cluster, Counter(each.host for each in chosen))


@pytest.mark.parametrize("position", ["0/1", "1:0/1"])
def test_one_caller_after_another(
    cluster: Cluster, url: str, make_asker: AskerFactory, position: str
) -> None:
    ask = make_asker(url, deadline=10)
    ask("replica")
    hosts = Counter(ask("replica", min_lsn=position).host for _ in range(COUNT))
    assert_even(cluster, hosts)


def test_a_fresh_position_after_each_write(
    cluster: Cluster, url: str, make_asker: AskerFactory
) -> None:
    ask = make_asker(url, deadline=10)
    hosts: Counter[str] = Counter()
    for _ in range(10):
        ((lsn,),) = cluster.primary.sql("SELECT pg_logical_emit_message(true, 'test', 'x')::text")
        burst = [{"min_lsn": lsn, "wait_ms": 2000}] * (COUNT // 10)
        hosts.update(each.host for each in ask.burst("replica", burst))
    # The replica that replays first serves the callers until the others have replayed, too.
    assert min(hosts.values()) >= COUNT / 10, hosts
