"""HAProxy while pg-status is out, and across its own start and reload."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import ClusterFactory, DaemonFactory
from tests.neighbours.haproxy import (
    PROGRAM,
    HAProxy,
    HAProxyFactory,
    haproxies,  # noqa: F401
    host_of,
    is_open,
)
from tests.support.daemon import Daemon
from tests.support.defects import with_defect
from tests.support.illhosts import listener
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(
    not Path(PROGRAM).exists(), reason="haproxy is not installed (Debian: haproxy)"
)


@contextmanager
def stopped(daemon: Daemon, cluster: Cluster) -> Iterator[None]:
    daemon.stop()
    yield


@contextmanager
def frozen(daemon: Daemon, cluster: Cluster) -> Iterator[None]:
    """Its port is open, but nobody answers."""
    pids = (daemon.pid,)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def broken(daemon: Daemon, cluster: Cluster) -> Iterator[None]:
    """Whatever is asked, 500 is the answer."""
    daemon.stop()
    answer = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with listener(daemon.address, answer, daemon.port):
        yield


@contextmanager
def out_of_date(daemon: Daemon, cluster: Cluster) -> Iterator[None]:
    """It answers, and says that what it knows is too old: its monitor hangs."""
    with tempfile.TemporaryDirectory() as directory:
        hang = Path(directory, "hang")
        daemon.stop()
        daemon.command = with_defect("time.sleep(3600)", hang)
        daemon.launch()
        wait_until("it is ready again", daemon.is_ready)
        hang.touch()
        wait_until("too old", lambda: "too old" in daemon.text("/master"))
        yield


@contextmanager
def not_ready(daemon: Daemon, cluster: Cluster) -> Iterator[None]:
    """It was restarted, and a host keeps its first check waiting."""
    daemon.stop()
    silent = cluster.replicas[0]
    silent.freeze()
    try:
        daemon.launch()
        wait_until("it answers", lambda: _says_not_ready(daemon))
        yield
        assert _says_not_ready(daemon), "it was ready before the test was over"
    finally:
        silent.thaw()


def _says_not_ready(daemon: Daemon) -> bool:
    try:
        return "not ready" in daemon.text("/master")
    except httpx.TransportError:
        return False


# `out_of_date`: sooner than that the hanging monitor ends the process.
HURRIED = {"sleep_ms": 100, "query_timeout_ms": 900, "max_staleness_ms": 1000}
# `not_ready`: as long as the silent host is waited for.
PATIENT = {"connect_timeout": 60, "query_timeout_ms": 60_000}


@pytest.mark.parametrize(
    ("trouble", "variables"),
    [(stopped, {}), (frozen, {}), (broken, {}), (out_of_date, HURRIED), (not_ready, PATIENT)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_without_pg_status_all_stays_as_it_was(
    cluster: Cluster,
    make_daemon: DaemonFactory,
    make_haproxy: HAProxyFactory,
    trouble: Callable[[Daemon, Cluster], AbstractContextManager[None]],
    variables: dict[str, object],
) -> None:
    """Sessions live, new ones are served, and no server changes its state."""
    daemon = make_daemon(cluster, **variables)
    haproxy = make_haproxy(cluster, daemon)
    with haproxy.write() as write, haproxy.read() as read:
        before = went_down(haproxy)
        with trouble(daemon, cluster):
            wait_until("it is found out", lambda: not haproxy.pg_status_is_up())
            haproxy.wait_for_checks(50)
            assert went_down(haproxy) == before
            assert host_of(write) == cluster.primary.address
            haproxy.settle(cluster)
            assert haproxy.writes_reach(cluster.primary.address)
        assert is_open(read)


def went_down(haproxy: HAProxy) -> dict[tuple[str, str], str]:
    """How often each server was marked down."""
    return {server: row["chkdown"] for server, row in haproxy.checked().items()}


def test_what_pg_status_missed_is_made_up_for(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, make_haproxy: HAProxyFactory
) -> None:
    """A failover while it is out: nobody is sent to the new master before it is back."""
    cluster = make_cluster()
    daemon = make_daemon(cluster)
    haproxy = make_haproxy(cluster, daemon)
    old = cluster.primary
    daemon.stop()
    cluster.fail_over()
    haproxy.wait_for_checks(20)
    assert haproxy.up("write") == {old.address}
    assert not haproxy.writes_reach(cluster.primary.address)
    daemon.launch()
    wait_until("writes", lambda: haproxy.writes_reach(cluster.primary.address))


def test_a_second_pg_status_takes_over(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, make_haproxy: HAProxyFactory
) -> None:
    """The line for it is in the file, commented out."""
    cluster = make_cluster()
    first, second = make_daemon(cluster), make_daemon(cluster)
    line = "server second 192.0.2.8:8000"
    changes = {f"#{line}": line, "192.0.2.8:8000": f"{second.address}:{second.port}"}
    haproxy = make_haproxy(cluster, first, changes)
    first.stop()
    wait_until("it is found out", lambda: not haproxy.pg_status_is_up())
    cluster.fail_over()
    wait_until("writes", lambda: haproxy.writes_reach(cluster.primary.address))


def test_nobody_is_served_before_pg_status_has_said_anything(
    cluster: Cluster, make_daemon: DaemonFactory, tmp_path: Path
) -> None:
    """HAProxy takes all servers for good when it starts; that is not kept."""
    daemon = make_daemon(cluster)
    daemon.stop()
    with HAProxy(tmp_path, cluster, daemon) as haproxy:
        wait_until("all are down", lambda: not haproxy.up("write") | haproxy.up("read"))
        haproxy.wait_for_checks(10)
        assert not haproxy.up("write") | haproxy.up("read")
        with pytest.raises(psycopg.OperationalError):
            haproxy.write()
        daemon.launch()
        haproxy.settle(cluster)


def test_nobody_may_write_while_two_servers_are_up(
    cluster: Cluster, daemon: Daemon, make_haproxy: HAProxyFactory
) -> None:
    """A replica is said to be up, and no check may object."""
    haproxy = make_haproxy(cluster, daemon)
    replica = f"write/{cluster.replicas[0].address}"
    haproxy.say(f"disable health {replica}")
    haproxy.say(f"set server {replica} health up")
    for _ in range(5):
        with pytest.raises(psycopg.OperationalError):
            haproxy.write()
    haproxy.say(f"enable health {replica}")
    haproxy.settle(cluster)
    assert haproxy.writes_reach(cluster.primary.address)


def test_a_reload_keeps_what_is_known_and_the_sessions(
    cluster: Cluster, make_daemon: DaemonFactory, make_haproxy: HAProxyFactory
) -> None:
    """Even if pg-status is out just then."""
    daemon = make_daemon(cluster)
    haproxy = make_haproxy(cluster, daemon)
    with haproxy.write() as session:
        daemon.stop()
        haproxy.reload()
        haproxy.wait_for_checks(20)
        haproxy.settle(cluster)
        assert haproxy.writes_reach(cluster.primary.address)
        assert is_open(session)
