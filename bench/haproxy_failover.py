"""Measures the time from a promotion to the first write through HAProxy, and its components.

``python -m bench.haproxy_failover`` runs failovers of a real cluster behind HAProxy with the
packaged configuration. It measures the time from the return of ``pg_ctl promote`` until pg-status
reports the new master, until HAProxy marks it up and the old one down, and until a write through
the write port is committed on it (attempted every ten milliseconds).
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median

import psycopg
from tests.chaos.figures import watched_cluster  # found from a script's own directory
from tests.neighbours.haproxy import HAProxy
from tests.support.daemon import Daemon

from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster, Server

PATIENCE = 30
EVERY = 0.01

STEPS = (
    "pg-status reports it",
    "HAProxy: new server up",
    "HAProxy: old server down",
    "first write",
)


def when(predicate: Callable[[], bool]) -> float:
    """Wait for the predicate; return the time at which it became true."""
    deadline = time.monotonic() + PATIENCE
    while not predicate():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {PATIENCE} s")
        time.sleep(EVERY / 2)
    return time.monotonic()


async def first_write(haproxy: HAProxy, address: str) -> float:
    """Return the time at which a write was first committed on this host.

    Each attempt uses its own session and does not wait for the others.
    """
    written: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def attempt() -> None:
        with suppress(psycopg.Error):
            async with await psycopg.AsyncConnection.connect(haproxy.write_conninfo) as session:
                cursor = await session.execute(
                    "INSERT INTO written VALUES (now()) RETURNING host(inet_server_addr())"
                )
                reached = await cursor.fetchone()
            if reached == (address,) and not written.done():
                written.set_result(time.monotonic())

    attempts: set[asyncio.Task[None]] = set()
    while not written.done():
        attempts.add(asyncio.create_task(attempt()))
        await asyncio.wait({written}, timeout=EVERY)
    await asyncio.gather(*attempts)
    return written.result()


async def failover(
    cluster: Cluster, daemon: Daemon, haproxy: HAProxy, lose: Callable[[Server], None]
) -> list[float]:
    """Run one failover; return the seconds from the return of the promotion to each of STEPS."""
    old, heir = cluster.primary, cluster.replicas[0]
    lose(old)
    cluster.promote(heir)
    promoted = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        times = await asyncio.gather(
            asyncio.to_thread(when, lambda: daemon.text("/master") == heir.address),
            asyncio.to_thread(when, lambda: heir.address in haproxy.up("write")),
            asyncio.to_thread(when, lambda: old.address not in haproxy.up("write")),
            first_write(haproxy, heir.address),
        )
    return [at - promoted for at in times]


def measure(repeats: int, sleep_ms: int, lose: Callable[[Server], None]) -> list[list[float]]:
    results = []
    with (
        watched_cluster(bundled("18"), sleep_ms=sleep_ms) as (cluster, daemon),
        tempfile.TemporaryDirectory(prefix="pg-status-bench-") as directory,
        HAProxy(Path(directory), cluster, daemon) as haproxy,
    ):
        cluster.primary.sql("CREATE TABLE written (at timestamptz)")
        for number in range(repeats):
            haproxy.settle(cluster)
            # Vary the moment of the failover within the check interval.
            time.sleep(sleep_ms / 1000 * number / repeats)
            results.append(asyncio.run(failover(cluster, daemon, haproxy, lose)))
            # Every other server may have WAL that the new master does not have.
            for replica in cluster.replicas:
                cluster.rebuild(replica)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.haproxy_failover", description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--sleep-ms", type=int, default=5000)
    options = parser.parse_args()
    for name, lose in (
        ("the master crashes", Server.crash),
        ("the old master keeps running", lambda _: None),
    ):
        results = measure(options.repeats, options.sleep_ms, lose)
        sys.stdout.write(
            f"{name}, sleep_ms={options.sleep_ms}, {len(results)} failovers; "
            "seconds after the promotion: median, worst\n"
        )
        for step, times in zip(STEPS, zip(*results, strict=True), strict=True):
            sys.stdout.write(f"  {step:26}{median(times):6.3f}{max(times):8.3f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
