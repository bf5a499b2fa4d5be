"""Answers from memory and changes with a real pg-status, through failovers and its own failures."""

import re
import time
from collections.abc import Iterator

import pytest

from pgstatus.client import Answer
from pgstatus.demo.cluster import Cluster
from tests.client.support import Asker, AskerFactory
from tests.client.test_unavailable import frozen
from tests.conftest import ClusterFactory, DaemonFactory
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until


@pytest.fixture
def askers() -> Iterator[list[Asker]]:
    """Both clients."""
    askers: list[Asker] = []
    yield askers
    for ask in askers:
        ask.close()


def requests_of(daemon: Daemon) -> int:
    """The number of requests that select a host, by the counters of pg-status."""
    counts = re.findall(
        r'^pg_status_http_requests_total\{.*endpoint="/(?:master|replica)".*\} ([0-9.]+)',
        daemon.text("/metrics"),
        re.MULTILINE,
    )
    return int(sum(map(float, counts)))


def assert_from_memory(ask: Asker, daemon: Daemon, question: str, hosts: set[str]) -> None:
    """Wait until answers come from memory; they name these hosts in turn."""

    def no_request() -> bool:
        before = requests_of(daemon)
        named = {ask(question).host for _ in range(4)}
        return named == hosts and requests_of(daemon) == before

    wait_until(f"{question} is answered from memory by {hosts}", no_request)


def test_a_failover(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, askers: list[Asker]
) -> None:
    cluster = make_cluster(replicas=2)
    daemon = make_daemon(cluster, sleep_ms=100)
    masters: list[list[str]] = []
    for kind in (False, True):
        ask = Asker(kind, daemon.url, watch=True)
        askers.append(ask)
        masters.append([])

        def changed(answer: Answer, record: list[str] = masters[-1]) -> None:
            record.extend(host.host for host in answer.hosts)

        ask.on_change(changed)
    first = cluster.primary.address
    replicas = {replica.address for replica in cluster.replicas}
    for ask in askers:
        assert_from_memory(ask, daemon, "master", {first})
        assert_from_memory(ask, daemon, "replica", replicas)

    cluster.fail_over()
    second = cluster.primary.address
    for ask, record in zip(askers, masters, strict=True):
        ask.until("the change", lambda record=record: record[-1] == second)  # type: ignore[misc]
        assert record == [first, second]
        assert_from_memory(ask, daemon, "master", {second})
        assert_from_memory(ask, daemon, "replica", replicas - {second})


def test_pg_status_is_restarted(
    cluster: Cluster, make_daemon: DaemonFactory, make_asker: AskerFactory
) -> None:
    daemon = make_daemon(cluster, sleep_ms=100)
    ask = make_asker(daemon.url, watch=True)
    states: list[Answer] = []
    ask.on_change(states.append)
    ask.until("the master", lambda: states)
    assert_from_memory(ask, daemon, "master", {cluster.primary.address})
    daemon.kill_and_relaunch()
    assert ask("master").host == cluster.primary.address
    assert_from_memory(ask, daemon, "master", {cluster.primary.address})
    daemon.process.send_signal(1)  # a reload closes the streams
    assert_from_memory(ask, daemon, "master", {cluster.primary.address})
    # Only while it was not ready there was no master.
    assert {state.hosts[0].host for state in states if state.hosts} == {cluster.primary.address}


def test_pg_status_is_frozen(
    cluster: Cluster, make_daemon: DaemonFactory, make_asker: AskerFactory
) -> None:
    """Answers from memory while they are fresh, then the last one as without notifications."""
    daemon = make_daemon(cluster, sleep_ms=100, query_timeout_ms=500, max_staleness_ms=1000)
    ask = make_asker(daemon.url, watch=True)
    assert_from_memory(ask, daemon, "master", {cluster.primary.address})
    with frozen(daemon):
        calls = ask.repeat(2.0, "master")
    assert {answer.host for _, answer in calls} == {cluster.primary.address}
    assert_from_memory(ask, daemon, "master", {cluster.primary.address})
    began = time.monotonic()
    daemon.stop()
    while time.monotonic() - began < 1.5:
        assert ask("master").host == cluster.primary.address


def test_one_of_several_clusters(
    make_daemon: DaemonFactory, cluster: Cluster, askers: list[Asker]
) -> None:
    """The URL of a client ends in ``/c/NAME``; so does that of its stream."""
    daemon = make_daemon(cluster, clusters="orders,users")
    for kind in (False, True):
        ask = Asker(kind, f"{daemon.url}/c/orders", watch=True)
        askers.append(ask)
        assert_from_memory(ask, daemon, "master", {cluster.primary.address})
        assert_from_memory(ask, daemon, "replica", {r.address for r in cluster.replicas})
