"""The cost and the latency of change notifications: ``python -m bench.watch``.

A real cluster fails over while thousands of subscribers watch `/watch/master`. The latency of an
event is the time from the end of the check that found the new master (``checked_at`` of the event
of `/watch`) to its receipt. Sending the same bytes from a minimal program is measured beside it.
"""

import argparse
import json
import multiprocessing
import os
import re
import select
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.hosts import daemon_of, share_of_a_core
from bench.load import hey
from bench.processes import pss_mib, tree
from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port

REQUEST = b"GET %s HTTP/1.1\r\nHost: bench\r\n\r\n"


def connect(address: tuple[str, int], path: str) -> socket.socket:
    sock = socket.create_connection(address)
    sock.sendall(REQUEST % path.encode())
    return sock


def receive(address: tuple[str, int], path: str, number: int, pipe: Connection) -> None:
    """Subscribe, then report the receipt of events that contain the requested bytes."""
    epoll = select.epoll()
    socks = {}
    for _ in range(number):
        sock = connect(address, path)
        while b"\n\ndata" not in (data := sock.recv(65536)) and b"event:" not in data:
            pass
        epoll.register(sock, select.EPOLLIN)
        socks[sock.fileno()] = sock
    pipe.send("ready")
    wanted = pipe.recv()
    while wanted:
        received: list[float] = []
        while len(received) < number:
            for fd, _ in epoll.poll():
                if wanted in socks[fd].recv(65536):
                    received.append(time.time())
        pipe.send(received)
        wanted = pipe.recv()


@contextmanager
def subscribers(address: tuple[str, int], path: str, number: int) -> Iterator[Any]:
    """So many subscribers in a process of their own; yields the pipe to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=receive, args=(address, path, number, theirs), daemon=True)
    process.start()
    assert ours.recv() == "ready"
    yield ours
    process.kill()
    process.join()


def found_at(stream: socket.socket, master: str) -> float:
    """When the check ended that found the new master, Unix time."""
    buffer = b""
    while True:
        buffer += stream.recv(65536)
        for text in re.findall(rb"event: hosts\ndata: (.*)\n\n", buffer):
            event = json.loads(text)
            if event["master"] == master:
                [checked] = [h["checked_at"] for h in event["hosts"] if h["master"]]
                return datetime.fromisoformat(checked).timestamp()


def fail_over(
    cluster: Cluster, address: tuple[str, int], pipe: Any
) -> tuple[Sequence[float], Sequence[float]]:
    """Latencies of all subscribers in ms, from the check and from the first receipt."""
    successor = max(cluster.replicas, key=lambda server: server.lsn())
    with connect(address, "/watch") as stream:
        pipe.send(f'"host": "{successor.address}"'.encode())
        lost = cluster.primary
        lost.crash()
        cluster.promote(successor)
        for replica in cluster.replicas_without(lost):
            replica.follow(successor)
        began = found_at(stream, f"{successor.address}:{successor.port}")
    received = sorted(pipe.recv())
    cluster.rebuild(lost)
    return [1000 * (t - began) for t in received], [1000 * (t - received[0]) for t in received]


def plain_sends(number: int) -> Sequence[float]:
    """The same from a program that does nothing but `send`, in ms from its begin."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=receive, args=(listener.getsockname(), "/", number, theirs), daemon=True
        )
        process.start()
        socks = []
        for _ in range(number):
            sock, _address = listener.accept()
            sock.recv(4096)
            sock.send(b"event: answer\n\n")
            socks.append(sock)
        assert ours.recv() == "ready"
        ours.send(b"wanted")
        time.sleep(0.5)
        event = b"id: 0123456789ab-17\nevent: answer\ndata: wanted" + b"x" * 250 + b"\n\n"
        began = time.time()
        for sock in socks:
            sock.send(event)
        received = sorted(ours.recv())
        process.kill()
        process.join()
        for sock in socks:
            sock.close()
    return [1000 * (t - began) for t in received]


def words(latencies: Sequence[float]) -> str:
    half, most = statistics.median(latencies), latencies[int(0.99 * len(latencies))]
    return f"half within {half:.0f} ms, 99 % {most:.0f} ms, all {latencies[-1]:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscribers", type=int, default=4000)
    parser.add_argument("--failovers", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    number = arguments.subscribers
    network = Network()
    addresses = [network.address(10 + n) for n in range(3)]
    cores = sorted(os.sched_getaffinity(0))

    def report(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="pg-status-bench-") as directory:
        Path(directory).chmod(0o755)
        cluster = Cluster(bundled("18"), Path(directory), addresses, free_port(addresses, 5432))
        try:
            cluster.start()
            with daemon_of(cluster, network, 0) as daemon:
                address = daemon.address, daemon.port
                pids = tree(daemon.pid)
                time.sleep(3)
                idle, before = share_of_a_core(daemon, arguments.seconds), pss_mib(pids)
                alone = hey(f"{daemon.url}/master", 5, cores[-1], per_second=500).p99
                with subscribers(address, "/watch/master", number) as pipe:
                    time.sleep(3)
                    busy = share_of_a_core(daemon, arguments.seconds)
                    each = 1024 * (pss_mib(pids) - before) / number
                    beside = hey(f"{daemon.url}/master", 5, cores[-1], per_second=500).p99
                    report(f"{number} subscribers while nothing changes:")
                    report(f"  {busy:.2f} % of a core ({idle:.2f} % without), {each:.1f} KiB each")
                    report(f"  p99 of /master at 500/s: {beside:.2f} ms ({alone:.2f} ms without)")
                    for _ in range(arguments.failovers):
                        check, spread = fail_over(cluster, address, pipe)
                        report(f"failover: {words(check)} after the check")
                        report(f"  after the first subscriber: {words(spread)}")
                        report(f"  plain sends: {words(plain_sends(number))}")
                        time.sleep(2)
                    pipe.send(b"")
        finally:
            cluster.stop()
            network.release()


if __name__ == "__main__":
    main()
