"""``python -m bench.churn``: tests whether the memory of the daemon remains constant.

For an hour (``--minutes``), clients connect and disconnect, some of them in the middle of a request
or response, and send a million distinct requests for a replica. Once a minute the daemon reloads
its configuration, and its memory is printed.
"""

import argparse
import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from bench.place import a_place
from bench.processes import cpu_seconds, pss_mib, tree
from bench.servers import wait_for
from pgstatus.demo.cluster import Cluster

_BATCH = 16
# With this option, close() resets the connection.
_RESET = struct.pack("ii", 1, 0)


class Client:
    """Sends distinct requests on connections that it keeps for a short time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._random = random.Random(1)
        self._numbers = count()
        self.asked = 0
        self.connections = 0

    def connection(self) -> None:
        """Open one connection, send requests, and end the connection in one of several ways."""
        with socket.create_connection(self._address, 10) as sock:
            self.connections += 1
            for _ in range(self._random.randrange(4)):
                self._request(sock)
            match self._random.randrange(4):
                case 0:
                    sock.sendall(b"GET /master HTTP/1.1\r\nHos")
                case 1:
                    sock.sendall(b"GET /hosts HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                case 2:
                    sock.sendall(b"\x16\x03 nonsense\r\n\r\n")

    def _request(self, sock: socket.socket) -> None:
        requests = [
            b"GET /replica?lag_ms=%d HTTP/1.1\r\nHost: x\r\n\r\n" % next(self._numbers)
            for _ in range(_BATCH)
        ]
        sock.sendall(b"".join(requests))
        received = b""
        while received.count(b"HTTP/1.1 ") < _BATCH or received.endswith(b"\r\n\r\n"):
            part = sock.recv(65536)
            if not part:
                raise ConnectionResetError("closed in the middle of a response")
            received += part
        self.asked += _BATCH


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--requests", type=int, default=1_000_000)
    options = parser.parse_args()
    with ExitStack() as undo:
        place = undo.enter_context(a_place())
        directory, network, cluster = place.directory, place.network, place.cluster
        address = (network.address(1), 8000)
        daemon = _start(cluster, address, directory)
        undo.callback(daemon.wait, 10)
        undo.callback(daemon.terminate)
        _churn(Client(address), daemon, options.minutes * 60, options.requests)
    return 0


def _start(
    cluster: Cluster, address: tuple[str, int], directory: Path
) -> "subprocess.Popen[bytes]":
    env_file = directory / "env"
    env_file.write_text("pg_status__max_fails=3\n")
    environment = {
        **os.environ,
        "pg_status__hosts": ",".join(server.address for server in cluster.servers),
        "pg_status__pg_port": str(cluster.primary.port),
        "pg_status__http_listen_address": address[0],
        "pg_status__sleep_ms": "1000",
        "pg_status__log_level": "error",
        "pg_status__env_file": str(env_file),
    }
    daemon = subprocess.Popen([sys.executable, "-m", "pgstatus"], env=environment)
    wait_for(f"http://{address[0]}:{address[1]}/master")
    return daemon


def _churn(
    client: Client, daemon: "subprocess.Popen[bytes]", seconds: float, requests: int
) -> None:
    began = time.monotonic()
    sizes: list[float] = []
    while (elapsed := time.monotonic() - began) < seconds:
        if elapsed >= 60 * len(sizes):
            sizes.append(pss_mib(tree(daemon.pid)))
            print(  # noqa: T201
                f"minute {len(sizes) - 1}: {sizes[-1]:.1f} MiB after {client.asked:,} distinct "
                f"requests on {client.connections:,} connections, "
                f"{cpu_seconds(tree(daemon.pid)):.0f} s of CPU",
                flush=True,
            )
            daemon.send_signal(signal.SIGHUP)
        # Spread the requests evenly over the duration.
        if client.asked > requests * elapsed / seconds:
            time.sleep(0.005)
        else:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.connection()
    settled = sizes[len(sizes) // 6]
    print(f"from minute {len(sizes) // 6} on: {sizes[-1] - settled:+.1f} MiB")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
