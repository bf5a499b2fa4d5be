"""The cost of a fleet: ``python -m bench.fleet``; ``--write`` puts the figures into docs/fleet.md.

Three watchers of a real cluster, relays, and 2,000 simulated relays: streams of ``/evidence`` of
every watcher, which a program of its own reads and discards. All of it runs on this machine, so
the delays contain the CPU time of the load program.
"""

import argparse
import multiprocessing
import os
import platform
import select
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

from bench.hosts import share_of_a_core
from bench.place import Place, a_place
from bench.processes import pss_mib, tree
from bench.table import markdown
from pgstatus.demo.cluster import Cluster

PAGE = Path(__file__).parents[1] / "docs/fleet.md"
_BEGIN = "<!-- figures: written by `make bench-fleet` -->\n"
_END = "<!-- end of figures -->\n"
_REQUEST = b"GET %s HTTP/1.1\r\nHost: bench\r\n\r\n"
_WATCHERS = 3
# Seconds until a group of processes uses no more CPU time for its start.
_SETTLE = 5.0
# Seconds between two failovers.
_PAUSE = 2.0

Address = tuple[str, int]


def main() -> int:
    options = _options()
    rows: list[tuple[str, str]] = []

    def row(what: str, figure: str) -> None:
        rows.append((what, figure))
        sys.stdout.write(f"{what}: {figure}\n")
        sys.stdout.flush()

    with a_place() as place, ExitStack() as undo:
        watchers = [undo.enter_context(_watcher(place, n)) for n in range(_WATCHERS)]
        relay = undo.enter_context(_relay(place, watchers, "relay"))
        time.sleep(_SETTLE)
        for name, daemon in (("a relay", relay), ("a watcher", watchers[0])):
            row(f"memory of {name}", memory(daemon))
            row(
                f"CPU time of {name}", f"{share_of_a_core(daemon, options.seconds):.2f} % of a core"
            )
        delays = [failover(place.cluster, watchers, relay)[0] for _ in range(options.failovers)]
        row(
            f"delay from the first watcher to a relay, {len(delays)} failovers",
            f"median {statistics.median(delays):.1f} ms, worst {max(delays):.1f} ms",
        )
        with _simulated(watchers, options.relays) as loads:
            time.sleep(_SETTLE)
            count = f"{options.relays:,} relays"
            row(f"connections per PostgreSQL host, {count}", _connections(place.cluster))
            cpu = share_of_a_core(watchers[0], options.seconds)
            row(f"CPU time of a watcher, {count}", f"{cpu:.1f} % of a core")
            row(f"memory of a watcher, {count}", memory(watchers[0]))
            runs = [
                failover(place.cluster, watchers, relay, loads) for _ in range(options.failovers)
            ]
            received = [receipts for _, receipts in runs]
            row(
                f"delay from the first watcher to {count}, {len(runs)} failovers",
                f"half within {_of(received, 0.5)} ms, 99 % {_of(received, 0.99)} ms, "
                f"the last {_of(received, 1.0)} ms",
            )
            delays = [delay for delay, _ in runs]
            row(
                "delay to the real relay meanwhile",
                f"median {statistics.median(delays):.0f} ms, worst {max(delays):.0f} ms",
            )
    if options.write:
        _write(rows)
    return 0


@contextmanager
def _watcher(place: Place, number: int) -> Iterator[Daemon]:
    hosts = ",".join(server.address for server in place.cluster.servers)
    variables = {"hosts": hosts, "pg_port": place.cluster.primary.port, "sleep_ms": 1000}
    log = place.directory / f"watcher{number}.log"
    with Daemon(log, variables, address=place.network.address(11 + number)) as daemon:
        yield daemon


@contextmanager
def _relay(place: Place, watchers: Sequence[Daemon], name: str) -> Iterator[Daemon]:
    variables = {"upstreams": ",".join(watcher.url for watcher in watchers)}
    log = place.directory / f"{name}.log"
    with Daemon(log, variables, address=place.network.address(21)) as daemon:
        wait_until("the master", lambda: daemon.text("/master") == place.cluster.primary.address)
        yield daemon


def memory(daemon: Daemon) -> str:
    """Beside other processes with the same files, and the most that it can be alone."""
    resident = 0
    for line in Path(f"/proc/{daemon.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            resident = int(line.split()[1])
    return f"{pss_mib(tree(daemon.pid)):.1f} MiB PSS, {resident / 1024:.1f} MiB RSS"


def _address(daemon: Daemon) -> Address:
    return daemon.address, daemon.port


def _subscribe(address: Address, path: str) -> socket.socket:
    sock = socket.create_connection(address)
    sock.sendall(_REQUEST % path.encode())
    return sock


def _first_events(socks: Sequence[socket.socket], wanted: bytes) -> list[float]:
    """When each stream has contained these bytes."""
    epoll = select.epoll()
    buffers = {}
    for sock in socks:
        epoll.register(sock, select.EPOLLIN)
        buffers[sock.fileno()] = (sock, b"")
    received: dict[int, float] = {}
    while len(received) < len(socks):
        for fd, _ in epoll.poll():
            sock, buffer = buffers[fd]
            at = time.monotonic()
            buffer += sock.recv(65536)
            if wanted in buffer:
                received.setdefault(fd, at)
            buffers[fd] = sock, buffer[-1000:]
    return [received[sock.fileno()] for sock in socks]


@contextmanager
def _simulated(watchers: Sequence[Daemon], relays: int) -> Iterator[list[Connection]]:
    """So many streams of each watcher, in two processes; yields the pipes to them."""
    context = multiprocessing.get_context("spawn")
    addresses = [_address(watcher) for watcher in watchers]
    pipes, processes = [], []
    for part in (relays // 2, relays - relays // 2):
        ours, theirs = context.Pipe()
        process = context.Process(target=_hold, args=(addresses, part, theirs), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)
    try:
        for pipe in pipes:
            assert pipe.recv() == "ready"
        yield pipes
    finally:
        for process in processes:
            process.kill()
            process.join()


def _hold(addresses: Sequence[Address], relays: int, pipe: Any) -> None:
    """Read all streams; report for each relay when one of its streams contained the requested
    bytes. Bytes may be divided, which the next document makes up for.
    """
    epoll = select.epoll()
    streams = {}
    for relay in range(relays):
        for address in addresses:
            sock = _subscribe(address, "/evidence")
            epoll.register(sock, select.EPOLLIN)
            streams[sock.fileno()] = sock, relay
    epoll.register(pipe, select.EPOLLIN)
    pipe.send("ready")
    wanted: bytes | None = None
    received: dict[int, float] = {}
    while True:
        for fd, _ in epoll.poll():
            if fd == pipe.fileno():
                wanted, received = pipe.recv(), {}
                continue
            sock, relay = streams[fd]
            data = sock.recv(65536)
            if wanted is not None and relay not in received and wanted in data:
                received[relay] = time.monotonic()
                if len(received) == relays:
                    pipe.send(list(received.values()))
                    wanted = None


def failover(
    cluster: Cluster,
    watchers: Sequence[Daemon],
    relay: Daemon,
    loads: Sequence[Connection] = (),
) -> tuple[float, list[float]]:
    """Milliseconds from the first event of a watcher to the relay, and to each simulated one.

    The events of the watchers and of the relay are those of ``/watch/master``.
    """
    lost = cluster.primary
    successor = max(cluster.replicas, key=lambda server: server.lsn())
    wanted = f'"host": "{successor.address}"'.encode()
    for pipe in loads:
        pipe.send(f'"master":"{successor.address}:{successor.port}"'.encode())
    with ExitStack() as undo:
        socks = [
            undo.enter_context(_subscribe(_address(daemon), "/watch/master"))
            for daemon in (*watchers, relay)
        ]
        events = undo.enter_context(ThreadPoolExecutor()).submit(_first_events, socks, wanted)
        lost.crash()
        cluster.promote(successor)
        for replica in cluster.replicas_without(lost):
            replica.follow(successor)
        *theirs, ours = events.result()
    received = sorted(at for pipe in loads for at in pipe.recv())
    cluster.rebuild(lost)
    time.sleep(_PAUSE)
    return 1000 * (ours - min(theirs)), [1000 * (at - min(theirs)) for at in received]


def _of(runs: Sequence[Sequence[float]], share: float) -> str:
    """The delay within which this share of the relays was reached: median of all runs, worst."""
    figures = [run[min(len(run) - 1, int(share * len(run)))] for run in runs]
    return f"{statistics.median(figures):.0f} (worst run {max(figures):.0f})"


def _connections(cluster: Cluster) -> str:
    """Sessions whose ``application_name`` begins with pg-status, on each host."""
    counts = [
        server.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pg-status%%'"
        )[0][0]
        for server in cluster.servers
    ]
    return ", ".join(map(str, counts))


def _write(rows: Sequence[tuple[str, str]]) -> None:
    """Replace the generated part of the page."""
    text = PAGE.read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    cores = len(os.sched_getaffinity(0))
    introduction = (
        f"{datetime.now(UTC):%Y-%m-%d}, {cores} cores shared with the PostgreSQL servers and the "
        f"load program, Python {platform.python_version()}. Load average of the last five minutes "
        f"of the run: {os.getloadavg()[1]:.1f}.\n"
    )
    table = markdown(["measurement", "result"], rows)
    PAGE.write_text(f"{before}{_BEGIN}\n{introduction}\n{table}\n{_END}{after}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--relays", type=int, default=2000, help="simulated")
    parser.add_argument("--failovers", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20, help="of a measurement of CPU time")
    parser.add_argument("--write", action="store_true", help="into docs/fleet.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
