"""The fast lane within the daemon: a real cluster, a real process, real clients."""

import resource
from collections import Counter
from pathlib import Path

import httpx

from pgstatus.demo.cluster import Cluster
from tests.conftest import ClusterFactory, DaemonFactory, Daemons
from tests.support.waiting import wait_until


def test_turns_stay_even_over_many_snapshots(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    daemon = make_daemon(cluster, sleep_ms=50)
    wait_until("both are named", lambda: len({daemon.text("/replica") for _ in range(4)}) == 2)
    named: Counter[str] = Counter()
    for client in [httpx.Client(base_url=daemon.url) for _ in range(4)]:
        with client:
            named.update(client.get("/replica").text for _ in range(150))
    assert named == {replica.address: 300 for replica in cluster.replicas}


def test_every_check_is_seen(make_cluster: ClusterFactory, make_daemon: DaemonFactory) -> None:
    cluster = make_cluster(replicas=1)
    daemon = make_daemon(cluster, sleep_ms=100)
    first = daemon.json("/hosts")[0]["checked_at"]
    wait_until("a new check is told", lambda: daemon.json("/hosts")[0]["checked_at"] != first)
    cluster.primary.stop()
    wait_until("no master is named", lambda: daemon.get("/master").status_code == 404)


def test_a_low_limit_of_open_files_is_raised(cluster: Cluster, daemons: Daemons) -> None:
    daemon = daemons.prepare(cluster)
    daemon.command = ["sh", "-c", 'ulimit -S -n 256 && exec "$@"', "sh", *daemon.command]
    with daemon:
        limits = Path(f"/proc/{daemon.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    soft = int(line.split()[3])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft >= min(hard, 4096)
