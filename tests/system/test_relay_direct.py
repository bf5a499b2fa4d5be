"""A relay without watchers: it checks the hosts itself, if that is configured."""

from pathlib import Path

from pgstatus.demo.cluster import Cluster
from tests.conftest import Daemons
from tests.support.daemon import Daemon
from tests.support.fleet import Fleet, all_in_sync, frozen, is_master
from tests.support.waiting import wait_until


def watchers_of(daemon: Daemon) -> set[str]:
    response = daemon.get("/hosts", Accept="application/json")
    # 503: the last evidence is too old.
    return {host["watcher"] for host in response.json()} if response.status_code == 200 else set()


def connections(daemon: Daemon, cluster: Cluster) -> list[str]:
    """The connections of the daemon to PostgreSQL, as lines of ``/proc/net/tcp``."""
    descriptors = Path(f"/proc/{daemon.pid}/fd").iterdir()
    own = {str(link.readlink()).removeprefix("socket:[")[:-1] for link in descriptors}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    port = f":{cluster.primary.port:04X}"
    return [line[2] for line in lines if line[2].endswith(port) and line[9] in own]


def test_hosts_are_checked_directly_until_a_watcher_is_back(
    daemons: Daemons, cluster: Cluster
) -> None:
    fleet = Fleet(daemons, cluster, watchers=1)
    (watcher,) = fleet.watchers
    relay = fleet.relay(watcher, fallback_direct="true", max_staleness_ms=4000, **fleet.hosts())
    assert watchers_of(relay) != {"direct"}
    watcher.process.kill()
    watcher.process.wait()
    wait_until("the relay checks the hosts", lambda: watchers_of(relay) == {"direct"}, 30)
    assert is_master(relay, cluster.primary)
    wait_until("all hosts are in sync", lambda: all_in_sync(relay))
    assert len(connections(relay, cluster)) >= len(cluster.servers)
    watcher.launch()
    wait_until("the checks end", lambda: "this relay no longer checks the hosts" in relay.log, 30)
    assert is_master(relay, cluster.primary)
    wait_until("its connections are closed", lambda: not connections(relay, cluster))
    wait_until("the watcher has checked", lambda: "direct" not in watchers_of(relay))


def test_a_relay_without_any_watcher_starts_with_direct_checks(
    daemons: Daemons, cluster: Cluster
) -> None:
    fleet = Fleet(daemons, cluster, watchers=0)
    nowhere = daemons.prepare(cluster)
    relay = fleet.prepare_relay(
        nowhere, fallback_direct="true", max_staleness_ms=4000, **fleet.hosts()
    )
    relay.patience = 40
    daemons.enter(relay)
    assert is_master(relay, cluster.primary)
    assert watchers_of(relay) == {"direct"}


def test_a_frozen_watcher_is_no_watcher(daemons: Daemons, cluster: Cluster) -> None:
    fleet = Fleet(daemons, cluster, watchers=1)
    (watcher,) = fleet.watchers
    relay = fleet.relay(watcher, fallback_direct="true", max_staleness_ms=4000, **fleet.hosts())
    with frozen(watcher):
        wait_until("the relay checks the hosts", lambda: watchers_of(relay) == {"direct"}, 30)
    wait_until("the watcher is back", lambda: f"{watcher.url}: evidence is" in relay.log)
    assert is_master(relay, cluster.primary)
