"""A cluster and a pg-status that watches it, for the tests of what applications use."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port

PATIENCE = 20.0


def wait_until(holds: Callable[[], bool], complaint: str) -> None:
    """Look until it holds; an assertion error when it does not within PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.01)


@contextmanager
def running_cluster(servers: int = 3) -> Iterator[tuple[Cluster, Network]]:
    """A primary and its replicas on addresses of their own; the last address is left free."""
    network = Network()
    try:
        with TemporaryDirectory(prefix="pg-status-test-", ignore_cleanup_errors=True) as directory:
            addresses = [network.address(number + 2) for number in range(servers)]
            cluster = Cluster(bundled("18"), Path(directory), addresses, free_port(addresses, 5432))
            try:
                cluster.start()
                yield cluster, network
            finally:
                cluster.stop()
    finally:
        network.release()


class Daemon:
    """One ``pg-status`` process."""

    def __init__(self, cluster: Cluster, listen: str, port: int, **settings: str) -> None:
        self.url = f"http://{listen}:{port}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if "pg_status__" not in name},
            "pg_status__hosts": ",".join(server.address for server in cluster.servers),
            "pg_status__pg_port": str(cluster.primary.port),
            "pg_status__http_listen_address": listen,
            "pg_status__http_port": str(port),
            "pg_status__sleep_ms": "100",
            "pg_status__log_level": "warning",
            **{f"pg_status__{name}": value for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pgstatus"], env=self._environment, start_new_session=True
        )
        wait_until(lambda: self.text("/ready") == "OK", "pg-status does not become ready")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(PATIENCE)

    def text(self, path: str) -> str:
        """An answer as text; empty for none."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as response:
                return str(response.read().decode())
        except OSError:
            return ""


@contextmanager
def running_daemon(cluster: Cluster, listen: str, **settings: str) -> Iterator[Daemon]:
    """A pg-status for this cluster, ready."""
    daemon = Daemon(cluster, listen, free_port([listen], 8000), **settings)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
