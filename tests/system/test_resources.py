"""No exhausted resource, and nothing that a client or a file does, ends the process."""

import contextlib
import os
import pty
import resource
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import DaemonFactory, Daemons
from tests.support.certificates import Certificates
from tests.support.daemon import Daemon
from tests.support.running import answers
from tests.support.waiting import wait_until

PACKAGED_MEMORY_MAX = 192 * 2**20
"""MemoryMax of the systemd unit, bytes."""


@contextmanager
def limited(daemon: Daemon, kind: int, value: int) -> Iterator[None]:
    """The process has a lower resource limit."""
    before = resource.prlimit(daemon.pid, kind)
    resource.prlimit(daemon.pid, kind, (value, before[1]))
    try:
        yield
    finally:
        resource.prlimit(daemon.pid, kind, before)


def status_bytes(daemon: Daemon, field: str) -> int:
    """A size from /proc/PID/status, bytes."""
    for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise AssertionError(field)


def open_files(daemon: Daemon) -> int:
    return len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))


def threads(daemon: Daemon) -> int:
    return len(list(Path(f"/proc/{daemon.pid}/task").iterdir()))


def checks_go_on(daemon: Daemon, cluster: Cluster) -> None:
    seen = daemon.host(cluster.primary.address)["checked_at"]
    wait_until(
        "hosts are checked",
        lambda: daemon.host(cluster.primary.address)["checked_at"] != seen,
    )
    assert daemon.text("/master") == cluster.primary.address


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>&- >&- <&-"])
def test_a_closed_or_full_stderr(cluster: Cluster, daemons: Daemons, redirection: str) -> None:
    daemon = daemons.prepare(cluster)
    daemon.command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *daemon.command]
    with daemon:
        checks_go_on(daemon, cluster)
        daemon.process.send_signal(signal.SIGHUP)
        checks_go_on(daemon, cluster)
        # No file of ours took the place of the closed descriptor.
        assert str(Path(f"/proc/{daemon.pid}/fd/2").readlink()).startswith(("/dev/", "pipe:"))
        assert daemon.stop() == 0


def test_a_terminal_that_is_not_read(cluster: Cluster, daemons: Daemons) -> None:
    daemon = daemons.prepare(cluster, log_level="debug", sleep_ms=20)
    reader, writer = pty.openpty()
    with ExitStack() as undo:
        undo.callback(os.close, reader)
        undo.callback(os.close, writer)
        undo.enter_context(daemon.with_stderr(writer))
        # The buffer of a terminal has 4 KiB; at level debug that is a second of lines.
        for _ in range(100):
            checks_go_on(daemon, cluster)
        assert daemon.stop() == 0


def test_a_deleted_working_directory(cluster: Cluster, daemons: Daemons, tmp_path: Path) -> None:
    directory = tmp_path / "work"
    directory.mkdir()
    daemon = daemons.prepare(cluster)
    daemon.command = ["sh", "-c", f'cd {directory} && rmdir {directory} && exec "$@"', "sh",
                      *daemon.command]  # fmt: skip
    with daemon:
        daemon.process.send_signal(signal.SIGHUP)
        wait_until("it is reloaded", lambda: "reloaded: " in daemon.log)
        checks_go_on(daemon, cluster)


def test_no_thread_can_be_started(cluster: Cluster, daemons: Daemons) -> None:
    """The address space is exhausted, so that there is no room for the stack of a thread."""
    daemon = daemons.prepare(cluster)
    # Stacks of ended threads are not kept for new ones.
    daemon.environment["GLIBC_TUNABLES"] = "glibc.pthread.stack_cache_size=0"
    with daemon:
        assert "pg_status_ready 1.0" in daemon.text("/metrics")
        with limited(daemon, resource.RLIMIT_AS, status_bytes(daemon, "VmSize") + 2**20):
            # A request that would use a thread is answered without one.
            assert "pg_status_ready 1.0" in daemon.text("/metrics")
            assert daemon.text("/replica?min_lsn=F/0&wait_ms=100") == cluster.primary.address
            daemon.process.send_signal(signal.SIGHUP)
            # There may be room for one thread: that of the reload, or that of a login.
            wait_until("it is logged", lambda: "can't start new thread" in daemon.log)
            checks_go_on(daemon, cluster)
        wait_until("the reload is done later", lambda: "reloaded: " in daemon.log)
        assert daemon.log.count("is postponed") <= 1
        checks_go_on(daemon, cluster)


def test_no_descriptor_is_left(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    daemon = make_daemon(cluster)
    assert daemon.text("/master") == cluster.primary.address
    with limited(daemon, resource.RLIMIT_NOFILE, open_files(daemon)):
        with ExitStack() as waiting:

            def is_logged() -> bool:
                if "cannot accept connections" in daemon.log:
                    return True
                # A descriptor that was in use when they were counted may be free by now.
                address = daemon.address, daemon.port
                client = waiting.enter_context(socket.create_connection(address, 5))
                client.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
                return False

            wait_until("it is logged", is_logged)
            daemon.process.send_signal(signal.SIGHUP)
            # The connection that is open is served.
            checks_go_on(daemon, cluster)
            assert daemon.log.count("cannot accept connections") == 1
        assert daemon.process.poll() is None
    checks_go_on(daemon, cluster)
    with socket.create_connection((daemon.address, daemon.port), 5) as client:
        client.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_a_thousand_reloads(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    daemon = make_daemon(cluster, sleep_ms=50)

    def reloads() -> int:
        return int(daemon.get("/live").headers["X-Pg-Status-Reloads"].split()[0])

    def settled() -> bool:
        return threads(daemon) <= before[0] and open_files(daemon) <= before[1]

    for _ in range(100):
        daemon.process.send_signal(signal.SIGHUP)
        time.sleep(0.02)
    wait_until("the first are done", lambda: reloads() >= 1)
    before = threads(daemon) + 1, open_files(daemon) + 2
    memory = status_bytes(daemon, "VmRSS")
    for _ in range(1000):
        daemon.process.send_signal(signal.SIGHUP)
        time.sleep(0.002)
    done = reloads()
    daemon.process.send_signal(signal.SIGHUP)
    wait_until("the last is done", lambda: reloads() > done)
    wait_until("what the others used is released", settled)
    assert status_bytes(daemon, "VmRSS") - memory < 8 * 2**20
    checks_go_on(daemon, cluster)


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16_384), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_4096_request_heads_in_pieces(
    cluster: Cluster, make_daemon: DaemonFactory, many_files: None
) -> None:
    """Memory stays below the limit of the unit, and a probe gets in."""
    daemon = make_daemon(cluster)
    piece = b"A: " + b"a" * 8000 + b"\r\n"
    with ExitStack() as stack:
        clients = []
        for _ in range(4096):
            client = stack.enter_context(socket.create_connection((daemon.address, daemon.port)))
            client.setblocking(False)
            clients.append(client)
            with contextlib.suppress(OSError):
                client.sendall(b"GET /master HTTP/1.1\r\n")
        largest = 0
        for _ in range(4):
            for client in clients:
                with contextlib.suppress(OSError):
                    client.send(piece)
            largest = max(largest, status_bytes(daemon, "VmRSS"))
        assert answers(daemon.client, "/live")
        assert daemon.text("/master") == cluster.primary.address
        assert largest < PACKAGED_MEMORY_MAX * 0.75
    checks_go_on(daemon, cluster)


def test_4000_tls_handshakes_that_do_not_end(
    cluster: Cluster, daemons: Daemons, tmp_path: Path, many_files: None
) -> None:
    daemon = daemons.prepare(cluster)
    certificates = Certificates(tmp_path, daemon.address)
    for name, value in certificates.variables.items():
        daemon.environment[f"pg_status__{name}"] = str(value)
    daemon.client.close()
    daemon.client = httpx.Client(
        base_url=daemon.url.replace("http:", "https:"), verify=certificates.context(), timeout=10
    )
    with daemon:
        _exhaust_handshakes(daemon)
        assert daemon.process.poll() is None
        checks_go_on(daemon, cluster)


def _exhaust_handshakes(daemon: Daemon) -> None:
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = context.wrap_bio(incoming, outgoing, server_hostname="x")
    with contextlib.suppress(ssl.SSLWantReadError):
        handshake.do_handshake()
    hello = outgoing.read()
    with ExitStack() as stack:
        largest = 0
        for number in range(4000):
            client = stack.enter_context(socket.create_connection((daemon.address, daemon.port)))
            client.setblocking(False)
            with contextlib.suppress(OSError):
                client.send(hello)
                client.send(hello)
            if number % 100 == 0:
                largest = max(largest, status_bytes(daemon, "VmRSS"))
        largest = max(largest, status_bytes(daemon, "VmRSS"))
        assert largest < PACKAGED_MEMORY_MAX * 0.75
        # On a new connection.
        daemon.client.close()
        daemon.client = httpx.Client(base_url=str(daemon.client.base_url), verify=False, timeout=10)
        wait_until("a probe gets in", lambda: answers(daemon.client, "/live"), 10)


def test_idle_connections_do_not_lock_out_probes(cluster: Cluster, daemons: Daemons) -> None:
    daemon = daemons.prepare(cluster)
    daemon.command = ["sh", "-c", 'ulimit -n 400 && exec "$@"', "sh", *daemon.command]
    with daemon, ExitStack() as stack:
        for _ in range(300):
            client = stack.enter_context(socket.create_connection((daemon.address, daemon.port)))
            client.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        with socket.create_connection((daemon.address, daemon.port), 5) as probe:
            probe.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
            assert probe.recv(1000).startswith(b"HTTP/1.1 200")
