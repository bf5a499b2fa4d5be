"""A relay with real watchers: failovers, watchers that fail, and hosts on which they disagree."""

import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.conftest import ClusterFactory, Clusters, Daemons
from tests.support.daemon import Daemon
from tests.support.fleet import Fleet, all_in_sync, frozen, is_master
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def own_cluster(session_clusters: Clusters) -> Cluster:
    """A cluster that the tests of this module break and repair."""
    return session_clusters.make()


@pytest.fixture(scope="module")
def watchers(
    own_cluster: Cluster, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sequence[Daemon]]:
    daemons = Daemons(network, tmp_path_factory.mktemp("watchers"))
    yield Fleet(daemons, own_cluster).watchers
    daemons.close()


@pytest.fixture
def fleet(daemons: Daemons, own_cluster: Cluster, watchers: Sequence[Daemon]) -> Fleet:
    """Three watchers, which are the same for all tests."""
    return Fleet(daemons, own_cluster, watchers)


def is_logged(daemon: Daemon, text: str) -> bool:
    return text in daemon.log


def has_reloaded(daemon: Daemon) -> bool:
    return "applied" in daemon.get("/live").headers["X-Pg-Status-Reloads"]


def has_no_master(daemon: Daemon) -> bool:
    return daemon.get("/master").status_code == 404


def test_a_failover_is_reported(fleet: Fleet) -> None:
    relay, cluster = fleet.relay(), fleet.cluster
    assert is_master(relay, cluster.primary)
    wait_until("all hosts are in sync", lambda: all_in_sync(relay))
    lost = cluster.fail_over()
    wait_until("the new master is reported", lambda: is_master(relay, cluster.primary))
    wait_until("the crashed host is dead", lambda: not relay.host(lost.address)["alive"])
    (replica,) = cluster.replicas_without(lost)
    wait_until("the replica is in sync", lambda: relay.host(replica.address)["in_sync"])
    cluster.rebuild(lost)
    wait_until("all hosts are in sync", lambda: all_in_sync(relay))


def test_a_relay_loads_no_libpq_and_makes_no_connection(fleet: Fleet) -> None:
    relay = fleet.relay()
    libraries = Path(f"/proc/{relay.pid}/maps").read_text()
    assert "libpq" not in libraries
    assert "psycopg" not in libraries
    for server in fleet.cluster.servers:
        [(connections,)] = server.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^pg-status'"
        )
        assert connections == len(fleet.watchers)


def test_a_frozen_watcher_delays_no_failover_and_brings_no_old_evidence(fleet: Fleet) -> None:
    relay, cluster = fleet.relay(), fleet.cluster
    watcher = fleet.watchers[0]
    with frozen(watcher):
        lost = cluster.fail_over()
        wait_until("the new master is reported", lambda: is_master(relay, cluster.primary))
        wait_until("the watcher is lost", lambda: f"{watcher.url}: no evidence" in relay.log)
    wait_until("the watcher is back", lambda: f"{watcher.url}: evidence is" in relay.log)
    wait_until("it has checked again", lambda: is_master(watcher, cluster.primary))
    assert is_master(relay, cluster.primary)
    cluster.rebuild(lost)
    wait_until("all hosts are in sync", lambda: all_in_sync(relay))
    # Old evidence would have made the lost host the master again.
    assert relay.log.count("is now the master") == 2


def test_a_watcher_is_killed_and_started_again(fleet: Fleet) -> None:
    relay = fleet.relay()
    wait_until("all hosts are in sync", lambda: all_in_sync(relay))
    for watcher in fleet.watchers:
        watcher.kill_and_relaunch()
        assert relay.get("/master").status_code == 200
        wait_until(
            "the relay follows it again", partial(is_logged, relay, f"{watcher.url}: evidence is")
        )
        assert all_in_sync(relay)
    assert relay.log.count("no evidence") == len(fleet.watchers)


def test_without_watchers_evidence_expires_when_it_is_too_old(fleet: Fleet) -> None:
    limit = 4.0
    relay = fleet.relay(max_staleness_ms=round(limit * 1000))
    statuses = []

    def expired() -> bool:
        asked = datetime.now(UTC)
        answer = relay.get("/hosts", Accept="application/json")
        statuses.append(answer.status_code)
        if answer.status_code == 200:
            newest = max(datetime.fromisoformat(host["checked_at"]) for host in answer.json())
            assert (asked - newest).total_seconds() <= limit + 0.1
        return answer.status_code == 503

    with frozen(*fleet.watchers):
        wait_until("the evidence has expired", expired)
        assert statuses[0] == 200
        assert relay.get("/master").status_code == 503
    wait_until("the master is reported", lambda: is_master(relay, fleet.cluster.primary))


def test_watchers_that_disagree_do_not_make_a_host_dead(fleet: Fleet) -> None:
    cluster = fleet.cluster
    replica = cluster.replicas[0]
    blind = fleet.watcher(unreachable=[replica, cluster.primary])
    assert not is_master(blind, cluster.primary)
    # It checks rarely, so its results are current for longer than a slow test machine may pause.
    other = fleet.watcher(sleep_ms=2500)
    relay = fleet.relay(blind, other, sleep_ms=100, max_fails=1, max_staleness_ms=30_000)
    wait_until("all hosts are in sync", lambda: all_in_sync(relay))

    def disagree() -> bool:
        watchers = relay.host(replica.address).get("watchers", {})
        errors = {str(error) for name, error in watchers.items() if error is not None}
        return len(watchers) == 2 and any("refused" in error for error in errors)

    wait_until("the disagreement is reported", disagree)
    wait_until("it is logged", lambda: "the watchers disagree: not reachable from" in relay.log)
    assert is_master(relay, cluster.primary)
    assert all(host["alive"] and host["error"] is None for host in relay.json("/hosts"))
    assert "is dead" not in relay.log
    assert "possibly dead" not in relay.log


def test_the_newest_timeline_wins_over_the_majority(
    daemons: Daemons, make_cluster: ClusterFactory
) -> None:
    cluster = make_cluster()
    old, (heir, other) = cluster.primary, cluster.replicas
    fleet = Fleet(daemons, cluster, watchers=0)
    majority = [fleet.watcher(unreachable=[heir, other]) for _ in range(2)]
    relay = fleet.relay(*majority, fleet.watcher())
    cluster.promote(heir)
    wait_until("the new master is reported", lambda: is_master(relay, heir))
    wait_until(
        "the old one is checked", lambda: "timeline 2 exists" in str(relay.host(old.address))
    )
    assert is_master(relay, heir)
    assert all(is_master(watcher, old) for watcher in majority)


def test_a_new_relay_does_not_report_a_replaced_master(
    daemons: Daemons, make_cluster: ClusterFactory
) -> None:
    cluster = make_cluster(replicas=1)
    fleet = Fleet(daemons, cluster)
    # It will not know what the others have seen.
    lost = cluster.fail_over()
    for watcher in fleet.watchers:
        wait_until("it has seen the failover", partial(is_master, watcher, cluster.primary))
    cluster.primary.crash()
    lost.start()
    for watcher in fleet.watchers:
        wait_until("the new one is dead", partial(has_no_master, watcher))
    ignorant = fleet.watcher()
    wait_until("it takes the old master", lambda: is_master(ignorant, lost))
    relay = fleet.relay(ignorant, *fleet.watchers)
    answer = relay.get("/master", Accept="application/json")
    assert answer.status_code == 404
    assert "timeline 2 exists" in answer.json()["reason"]


def test_hosts_are_those_of_the_live_watchers(fleet: Fleet) -> None:
    servers = fleet.cluster.servers
    first, second = (
        fleet.daemons.start(
            None, sleep_ms=200, hosts=",".join(f"{s.address}:{s.port}" for s in few)
        )
        for few in (servers[:2], servers[1:])
    )
    relay = fleet.relay(first, second)

    def hosts() -> list[str]:
        return [host["host"] for host in relay.json("/hosts")]

    wait_until("it has all hosts", lambda: hosts() == [s.address for s in servers])
    first.stop()
    wait_until("the first is removed", lambda: hosts() == [s.address for s in servers[1:]])


def test_a_reload_of_a_relay_loses_no_request(fleet: Fleet) -> None:
    relay = fleet.relay()
    for number in range(1, 4):
        relay.process.send_signal(signal.SIGHUP)

        def is_reloaded(applied: str = f"{number} applied") -> bool:
            assert is_master(relay, fleet.cluster.primary)
            return relay.get("/live").headers["X-Pg-Status-Reloads"] == applied

        wait_until("it is reloaded", is_reloaded)
    assert is_master(relay, fleet.cluster.primary)


def test_a_watcher_that_reloads_is_not_lost(fleet: Fleet) -> None:
    relay = fleet.relay()
    for watcher in fleet.watchers:
        watcher.process.send_signal(signal.SIGHUP)
        wait_until("it is reloaded", partial(has_reloaded, watcher))
    wait_until("all hosts are in sync", lambda: all_in_sync(relay))
    assert "no evidence" not in relay.log


def test_a_frozen_relay_does_not_believe_what_waited_for_it(fleet: Fleet) -> None:
    relay, cluster = fleet.relay(), fleet.cluster
    with frozen(relay):
        lost = cluster.fail_over()
        for watcher in fleet.watchers:
            wait_until("it has seen the failover", partial(is_master, watcher, cluster.primary))
    wait_until("the new master is reported", lambda: is_master(relay, cluster.primary))
    cluster.rebuild(lost)
    wait_until("all hosts are in sync", lambda: all_in_sync(relay))
    assert relay.log.count("is now the master") == 2
