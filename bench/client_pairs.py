"""Ten thousand times: write, then read as the same client, with responses that overlap.

``python -m bench.client_pairs [pairs] [users]`` makes a real cluster of a primary and two replicas
and runs the service of ``examples/fastapi`` under uvicorn with two worker processes. Each user is a
browser with one cookie jar and several requests at a time; a third of the writes is answered late.
It prints how many reads were stale, how many responses had no row, and which share the replicas
served.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port

TABS = 4
LATE_SECONDS = 0.02
ROOT = Path(__file__).parent.parent


class Tally:
    def __init__(self) -> None:
        self.hosts: Counter[str] = Counter()
        self.stale = 0
        self.failures: Counter[str] = Counter()
        self.written: set[int] = set()
        self.most_cookies = 0


async def user(url: str, pairs: int, tally: Tally) -> None:
    """One cookie jar, TABS pairs of write and read at a time."""
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:

        async def tab(number: int) -> None:
            for count in range(-(-pairs // TABS)):
                late = LATE_SECONDS if (count + number) % 3 == 0 else 0
                answer = await client.post("/notes", params={"body": "x", "late": late})
                if answer.status_code != 200:
                    tally.failures[f"POST {answer.status_code} {answer.text}"] += 1
                    continue
                note = answer.json()["id"]
                tally.written.add(note)
                read = await client.get(f"/notes/{note}")
                tally.most_cookies = max(tally.most_cookies, len(client.cookies))
                if read.status_code == 200:
                    tally.hosts[read.json()["host"]] += 1
                elif read.status_code == 404:
                    tally.stale += 1
                else:
                    tally.failures[f"GET {read.status_code} {read.text}"] += 1

        await asyncio.gather(*(tab(number) for number in range(TABS)))


async def run(url: str, pairs: int, users: int) -> Tally:
    tally = Tally()
    await asyncio.gather(*(user(url, pairs // users, tally) for _ in range(users)))
    return tally


def report(tally: Tally, lost: int, took: float, primary: str) -> None:
    total = tally.hosts.total() + tally.stale
    from_master = tally.hosts[primary]
    sys.stdout.write(
        f"{total} pairs in {took:.1f} s: {tally.stale} stale, {lost} lost, "
        f"{tally.failures.total()} failed; "
        f"{(total - tally.stale - from_master) / total:.1%} read from replicas, "
        f"{from_master / total:.1%} from the master; at most {tally.most_cookies} cookies\n"
    )
    for failure, count in tally.failures.most_common():
        sys.stdout.write(f"  {count} {failure}\n")
    for host, count in sorted(tally.hosts.items()):
        sys.stdout.write(f"  {host}{' (master)' if host == primary else '':10} {count}\n")


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/notes/0").status_code < 500
    except httpx.HTTPError:
        return False


def main() -> int:
    pairs, users = [int(argument) for argument in sys.argv[1:]] + [10_000, 8][len(sys.argv) - 1 :]
    with ExitStack() as undo:
        network = Network()
        undo.callback(network.release)
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="pg-status-bench-")))
        addresses = [network.address(last) for last in (2, 3, 4)]
        cluster = Cluster(bundled("18"), directory, addresses, free_port(addresses, 5432))
        undo.callback(cluster.stop)
        cluster.start()
        variables = {"hosts": ",".join(addresses), "pg_port": cluster.primary.port}
        address = network.address(1)
        daemon = Daemon(
            directory / "daemon.log", variables, address=address, port=free_port([address], 8000)
        )
        environment = {**os.environ, "PG_STATUS_URL": undo.enter_context(daemon).url}
        port = free_port(["127.0.0.1"], 8400)
        service = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "examples.fastapi.app:app", "--port", str(port),
             "--workers", "2", "--log-level", "critical"],
            cwd=ROOT, env=environment,
        )  # fmt: skip
        undo.callback(service.wait, 30)
        undo.callback(service.terminate)
        url = f"http://127.0.0.1:{port}"
        wait_until("the service responds", lambda: answers(url), timeout=60)
        began = time.monotonic()
        tally = asyncio.run(run(url, pairs, users))
        took = time.monotonic() - began
        rows = {number for (number,) in cluster.primary.sql("SELECT id FROM example_note")}
        lost = len(tally.written - rows)
        report(tally, lost, took, cluster.primary.address)
        return 1 if tally.stale or lost else 0


if __name__ == "__main__":
    sys.exit(main())
