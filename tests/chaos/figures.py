"""``make figures``: the figures of ``docs/failover.md``, measured on real clusters.

The output has the rows of its table. Times are the median and the maximum of several failovers.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx
import psycopg

from pgstatus.core.selection import Kind
from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster, Server
from pgstatus.demo.network import Network, free_port
from tests.chaos.events import wait_until_whole
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until


@contextmanager
def watched_cluster(bindir: Path, **variables: object) -> Iterator[tuple[Cluster, Daemon]]:
    """A complete cluster and a daemon that monitors it."""
    network = Network()
    directory = Path(tempfile.mkdtemp(prefix="pg-status-figures-"))
    addresses = [network.address(last) for last in (2, 3, 4)]
    cluster = Cluster(bindir, directory, addresses, free_port(addresses, 5432))
    try:
        cluster.start()
        wait_until_whole(cluster)
        variables |= {"hosts": ",".join(addresses), "pg_port": cluster.primary.port}
        with Daemon(directory / "log", variables, address=network.address(1)) as daemon:
            yield cluster, daemon
    finally:
        cluster.stop()
        shutil.rmtree(directory)
        network.release()


def failover(bindir: Path, sleep_ms: int, lose: Callable[[Server], None], repeats: int) -> str:
    """Time from the end of ``pg_ctl promote``, and from the loss, to the correct ``/master``."""
    after_promotion, in_all = [], []
    for number in range(repeats):
        with watched_cluster(bindir, sleep_ms=sleep_ms) as (cluster, daemon):
            # At different times within the pause between two checks.
            time.sleep(sleep_ms / 1000 * number / repeats)
            old, successor = cluster.primary, cluster.replicas[0]
            lose(old)
            lost = time.monotonic()
            cluster.promote(successor)
            promoted = time.monotonic()
            while daemon.text("/master") != successor.address:
                time.sleep(0.002)
            named = time.monotonic()
            after_promotion.append(named - promoted)
            in_all.append(named - lost)
            if old.is_running:
                old.thaw()
    return (
        f"median {median(after_promotion):.3f} s, worst {max(after_promotion):.3f} s after the "
        f"promotion (median {median(in_all):.3f} s after the loss)"
    )


def return_of_the_old(bindir: Path, seconds: float) -> str:
    """How often the returned old master is reported."""
    with watched_cluster(bindir, sleep_ms=1000) as (cluster, daemon):
        old = cluster.fail_over()
        wait_until(
            "the new master is reported", lambda: daemon.text("/master") == cluster.primary.address
        )
        old.start()
        asked = named = 0
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            asked += 1
            named += daemon.text("/master") == old.address
            time.sleep(0.005)
    return f"the old master was returned in {named} of {asked} responses over {seconds:g} s"


def idle(bindir: Path, seconds: float) -> str:
    """How often a replica of an idle primary is reported late, with one write in the middle."""
    with watched_cluster(bindir, sleep_ms=1000) as (cluster, daemon):
        for replica in cluster.replicas:
            wait_until("in sync", lambda r=replica: daemon.host(r.address)["sync_by_time"])  # type: ignore[misc]
        asked = late = 0
        most = 0
        ends = time.monotonic() + seconds
        wrote = False
        while time.monotonic() < ends:
            if not wrote and ends - time.monotonic() < seconds / 2:
                cluster.primary.sql("SELECT pg_logical_emit_message(true, '', 'one write')")
                wrote = True
            for host in daemon.json("/hosts"):
                asked += 1
                late += not host["sync_by_time"]
                most = max(most, host["lag_ms"])
            time.sleep(0.02)
    return f"late in {late} of {asked} entries over {seconds:g} s; the largest lag_ms was {most}"


def outage(bindir: Path, seconds: float) -> str:
    """The responses to reads with limits while the primary is lost and no replica is promoted."""
    paths = ["/replica", "/replica?lag_ms=1000", *(f"/{kind}" for kind in Kind if "sync" in kind)]
    with watched_cluster(bindir, sleep_ms=1000) as (cluster, daemon):
        lost = cluster.primary
        for replica in cluster.replicas:
            wait_until("in sync", lambda r=replica: daemon.host(r.address)["in_sync"])  # type: ignore[misc]
        lost.crash()
        ends = time.monotonic() + seconds
        time.sleep(0.3)
        answers: Counter[str] = Counter()
        while time.monotonic() < ends:
            answers.update(daemon.text(path) for path in paths)
            time.sleep(0.05)
    return (
        f"of {answers.total()} responses of {len(paths)} endpoints within {seconds:g} s, "
        f"{answers[lost.address]} returned the lost primary, {answers['']} were 404"
    )


def fresh_reads(bindir: Path, reads: int, rate: float) -> str:
    """Which host serves a read immediately after the write, and whether it has the row."""
    with watched_cluster(bindir, sleep_ms=1000) as (cluster, daemon):
        cluster.primary.sql("CREATE TABLE written (n int PRIMARY KEY)")
        connections = {
            s.address: psycopg.connect(s.conninfo, autocommit=True) for s in cluster.servers
        }
        writer = connections[cluster.primary.address]
        from_replicas = stale = 0
        waits = []
        client = httpx.Client(base_url=daemon.url)
        cpu = _cpu_seconds(daemon.pid)
        began = time.monotonic()
        for n in range(reads):
            time.sleep(max(0.0, began + n / rate - time.monotonic()))
            writer.execute("INSERT INTO written VALUES (%s)", [n])
            row = writer.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
            assert row is not None
            asked = time.monotonic()
            host = client.get("/replica", params={"min_lsn": row[0]}).text
            waits.append(time.monotonic() - asked)
            found = connections[host].execute("SELECT FROM written WHERE n = %s", [n]).fetchone()
            stale += found is None
            from_replicas += host != cluster.primary.address
        took = time.monotonic() - began
        cpu = _cpu_seconds(daemon.pid) - cpu
        for connection in connections.values():
            connection.close()
    waits.sort()
    return (
        f"{100 * from_replicas / reads:.1f} % of {reads} reads from replicas at "
        f"{reads / took:.0f} commits/s, {stale} stale; the request took median "
        f"{1000 * median(waits):.1f} ms, p99 {1000 * waits[int(0.99 * reads)]:.1f} ms; "
        f"daemon {100 * cpu / took:.0f} % of a core"
    )


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make figures", description=__doc__)
    parser.add_argument("--bindir", type=Path, default=None, help="PostgreSQL programs")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--reads", type=int, default=10_000)
    options = parser.parse_args()
    bindir = options.bindir or bundled("18")
    version = subprocess.run(
        [bindir / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    _print(version)
    for sleep_ms in (5000, 1000):
        for name, lose in (
            ("crash", Server.crash),
            ("switchover", lambda old: old.stop(signal.SIGINT)),
            ("frozen primary", Server.freeze),
        ):
            _print(
                f"{name}, sleep_ms={sleep_ms}: " + failover(bindir, sleep_ms, lose, options.repeats)
            )
    _print("return of the old master: " + return_of_the_old(bindir, 20))
    _print("idle primary: " + idle(bindir, 30))
    _print("reads while the primary is lost: " + outage(bindir, 12))
    _print("read your writes: " + fresh_reads(bindir, options.reads, 100))
    return 0


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
