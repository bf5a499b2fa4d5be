"""Ten thousand times: write, then read as the same client. No read may miss the write.

``python -m bench.client_pairs [pairs] [users]`` makes a real cluster of a primary and two replicas
and runs the service of ``examples/fastapi`` in this process. It prints how many reads were stale,
and which share the replicas served.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
from tests.support.daemon import Daemon

from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port


async def run(pairs: int, users: int, primary: str) -> int:
    """Print the figures; the number of stale reads."""
    from examples.fastapi.app import app  # noqa: PLC0415  # it reads PG_STATUS_URL when imported
    from examples.fastapi.database import cluster, create_tables  # noqa: PLC0415

    await create_tables()
    hosts: Counter[str] = Counter()
    stale = 0

    async def user(number: int) -> None:
        nonlocal stale
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            for count in range(pairs // users):
                body = f"{number} {count}"
                written = (await client.post("/notes", params={"body": body})).json()
                answer = await client.get(f"/notes/{written['id']}")
                if answer.status_code != 200 or answer.json()["body"] != body:
                    stale += 1
                else:
                    hosts[answer.json()["host"]] += 1

    began = time.monotonic()
    await asyncio.gather(*(user(number) for number in range(users)))
    took = time.monotonic() - began
    await cluster.close()
    total = hosts.total() + stale
    replicas = total - stale - hosts[primary]
    sys.stdout.write(
        f"{total} pairs by {users} users in {took:.1f} s: {stale} stale, "
        f"{replicas / total:.1%} read from replicas, {hosts[primary] / total:.1%} from the master\n"
    )
    for host, count in sorted(hosts.items()):
        sys.stdout.write(f"  {host}{' (master)' if host == primary else '':10} {count}\n")
    return stale


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
        os.environ["PG_STATUS_URL"] = undo.enter_context(daemon).url
        return 1 if asyncio.run(run(pairs, users, cluster.primary.address)) else 0


if __name__ == "__main__":
    sys.exit(main())
