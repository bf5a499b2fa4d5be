"""The cost of checks: ``python -m bench.hosts``.

CPU time of the daemon with three healthy hosts and a number of hosts that refuse connections, at
one check per second, and the time from the end of ``pg_ctl promote`` to the new master's report.
Then the cost of position checks: commits at a fixed rate, each followed by ``/replica?min_lsn=``.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

from bench.processes import cpu_seconds, tree
from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port


@contextmanager
def daemon_of(
    cluster: Cluster, network: Network, refusing: int, **variables: object
) -> Iterator[Daemon]:
    """A daemon that is ready; the refusing hosts are closed ports."""
    hosts = [f"{s.address}:{s.port}" for s in cluster.servers]
    hosts += [f"{network.address(200)}:{port}" for port in range(1, refusing + 1)]
    address = network.address(1)
    variables = {"hosts": ",".join(hosts), "sleep_ms": 1000, **variables}
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        with Daemon(log, variables, address=address, port=free_port([address], 8000)) as daemon:
            wait_until("the master", lambda: daemon.text("/master") == cluster.primary.address)
            yield daemon


def share_of_a_core(daemon: Daemon, seconds: float) -> float:
    """CPU time of the daemon per second, in percent."""
    pids = tree(daemon.process.pid)
    before, began = cpu_seconds(pids), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_seconds(pids) - before) / (time.monotonic() - began)


def failover(cluster: Cluster, daemon: Daemon) -> float:
    """Milliseconds from the end of the promotion to the report of the new master."""
    lost = cluster.fail_over()
    promoted = time.monotonic()
    address = cluster.primary.address
    while daemon.text("/master") != address:
        time.sleep(0.002)
    took = time.monotonic() - promoted
    cluster.rebuild(lost)
    return 1000 * took


def fresh_reads(cluster: Cluster, daemon: Daemon, per_second: float, seconds: float) -> str:
    """The results of reads after commits, in words."""
    primary = cluster.primary
    durations, from_replicas, stale = [], 0, 0
    pids = tree(daemon.process.pid)
    readers = {s.address: psycopg.connect(s.conninfo, autocommit=True) for s in cluster.servers}
    writer = readers[primary.address]
    writer.execute("CREATE TABLE IF NOT EXISTS fresh (n int)")
    before, began = cpu_seconds(pids), time.monotonic()
    number = int(per_second * seconds)
    for n in range(number):
        time.sleep(max(0.0, began + n / per_second - time.monotonic()))
        writer.execute("INSERT INTO fresh VALUES (%s)", [n])
        [lsn] = writer.execute("SELECT pg_current_wal_insert_lsn()").fetchone() or [None]
        asked = time.monotonic()
        host = daemon.text(f"/replica?min_lsn={lsn}&wait_ms=100")
        durations.append(1000 * (time.monotonic() - asked))
        from_replicas += host != primary.address
        stale += not readers[host].execute("SELECT FROM fresh WHERE n = %s", [n]).fetchall()
    cpu = 100 * (cpu_seconds(pids) - before) / (time.monotonic() - began)
    return (
        f"{cpu:.1f} % of a core, median {statistics.median(durations):.1f} ms, "
        f"99 %: {statistics.quantiles(durations, n=100)[98]:.1f} ms, "
        f"{100 * from_replicas / number:.1f} % by replicas, {stale} stale"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--refusing", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--commits", type=float, default=100)
    arguments = parser.parse_args()
    network = Network()
    addresses = [network.address(10 + number) for number in range(3)]
    with tempfile.TemporaryDirectory(prefix="pg-status-bench-") as directory:
        Path(directory).chmod(0o755)
        cluster = Cluster(bundled("18"), Path(directory), addresses, free_port(addresses, 5432))
        try:
            cluster.start()
            for refusing in (0, arguments.refusing):
                with daemon_of(cluster, network, refusing) as daemon:
                    time.sleep(5)
                    cpu = share_of_a_core(daemon, arguments.seconds)
                    sys.stdout.write(f"{refusing} refusing hosts: {cpu:.2f} % of a core" + "\n")
                    sys.stdout.write(f"  failover: {failover(cluster, daemon):.0f} ms" + "\n")
            with daemon_of(cluster, network, 0) as daemon:
                time.sleep(2)
                words = fresh_reads(cluster, daemon, arguments.commits, arguments.seconds)
                sys.stdout.write(f"fresh reads at {arguments.commits:g} commits/s: {words}" + "\n")
        finally:
            cluster.stop()
            network.release()


if __name__ == "__main__":
    main()
