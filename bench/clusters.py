"""The cost of many clusters in one daemon: ``python -m bench.clusters``.

Each cluster has the same three servers, so that the daemon has three connections per cluster as
with servers of their own. Reported: the time until all clusters are ready, memory, CPU time, and
the time from the end of a promotion to its report, without and with a cluster whose hosts accept
connections and never respond.
"""

import argparse
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.running import answers
from tests.support.waiting import wait_until

from bench.hosts import share_of_a_core
from bench.place import a_place
from bench.processes import pss_mib, tree
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port

_SETTLE = 6.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--sleep-ms", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--failovers", type=int, default=3)
    options = parser.parse_args()
    with a_place() as place:
        _admit(place.cluster, 4 * options.clusters)
        for hanging in (0, 1):
            with _hanging(place.network, 3) as silent:
                _measure(place.cluster, place.network, silent[: 3 * hanging], options)
    return 0


def _admit(cluster: Cluster, connections: int) -> None:
    """Let the servers accept so many connections."""
    for server in cluster.servers:
        # A rebuilt replica receives this file from its primary.
        with (server.data / "postgresql.auto.conf").open("a") as file:
            file.write(f"max_connections = {connections}\n")
    for server in reversed(cluster.servers):
        server.stop()
    for server in cluster.servers:
        server.start()


@contextmanager
def _hanging(network: Network, number: int) -> Iterator[list[str]]:
    """Hosts that accept connections and never respond."""
    listeners = [socket.create_server((network.address(200 + n), 5432)) for n in range(number)]
    yield [f"{a}:{port}" for a, port in (listener.getsockname() for listener in listeners)]
    for listener in listeners:
        listener.close()


def _measure(
    cluster: Cluster, network: Network, silent: list[str], options: argparse.Namespace
) -> None:
    names = [f"c{number:03}" for number in range(options.clusters)]
    variables: dict[str, object] = {
        "clusters": ",".join(names + (["silent"] if silent else [])),
        "hosts": ",".join(f"{s.address}:{s.port}" for s in cluster.servers),
        "sleep_ms": options.sleep_ms,
        "log_level": "warning",
    }
    if silent:
        variables["silent__hosts"] = ",".join(silent)
    address = network.address(1)
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        daemon = Daemon(log, variables, address=address, port=free_port([address], 8000))
        began = time.monotonic()
        with daemon.launched():
            wait_until("all are ready", lambda: answers(daemon.client, "/ready"), 60)
            ready = time.monotonic() - began
            time.sleep(_SETTLE)
            cpu = share_of_a_core(daemon, options.seconds)
            memory = pss_mib(tree(daemon.process.pid))
            figures = [_failover(cluster, daemon, names) for _ in range(options.failovers)]
            first, last = (statistics.median(f[i] for f in figures) for i in (0, 1))
            sys.stdout.write(
                f"{options.clusters} clusters of {len(cluster.servers)} hosts, checks every "
                f"{options.sleep_ms} ms{', and one that hangs' if silent else ''}: ready after "
                f"{ready:.1f} s, {memory:.1f} MiB PSS, {cpu:.1f} % of a core; new master reported "
                f"{first:.0f} ms (first cluster) and {last:.0f} ms (last) after the promotion\n"
            )
            sys.stdout.flush()


def _failover(cluster: Cluster, daemon: Daemon, names: list[str]) -> tuple[float, float]:
    """Milliseconds from the end of the promotion to its report by the first and all clusters."""
    lost = cluster.fail_over()
    promoted = time.monotonic()
    expected = f"{cluster.primary.address}:{cluster.primary.port}"
    first = 0.0
    while True:
        masters = {entry["name"]: entry["master"] for entry in daemon.json("/clusters")}
        reported = sum(masters[name] == expected for name in names)
        now = 1000 * (time.monotonic() - promoted)
        first = first or (now if reported else 0.0)
        if reported == len(names):
            break
        time.sleep(0.005)
    cluster.rebuild(lost)
    return first, now


if __name__ == "__main__":
    sys.exit(main())
