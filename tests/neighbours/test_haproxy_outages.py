"""HAProxy while pg-status does not respond, and during its own start and reload."""

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
    """Its port is open, but it does not respond."""
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


@contextmanager
def broken(daemon: Daemon, cluster: Cluster) -> Iterator[None]:
    """It returns 500 to every request."""
    daemon.stop()
    answer = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with listener(daemon.address, answer, daemon.port):
        yield


@contextmanager
def out_of_date(daemon: Daemon, cluster: Cluster) -> Iterator[None]:
    """It responds that its state is stale: the monitoring thread hangs."""
    with tempfile.TemporaryDirectory() as directory:
        hang = Path(directory, "hang")
        daemon.stop()
        daemon.command = with_defect("time.sleep(3600)", hang)
        daemon.launch()
        wait_until("the daemon is ready again", daemon.is_ready)
        hang.touch()
        wait_until("the state is stale", lambda: "too old" in daemon.text("/master"))
        yield


@contextmanager
def not_ready(daemon: Daemon, cluster: Cluster) -> Iterator[None]:
    """It was restarted, and the first check of a host is pending."""
    daemon.stop()
    silent = cluster.replicas[0]
    silent.freeze()
    try:
        daemon.launch()
        wait_until("the daemon responds", lambda: _is_not_ready(daemon))
        yield
        assert _is_not_ready(daemon), "the daemon became ready before the end of the test"
    finally:
        silent.thaw()


def _is_not_ready(daemon: Daemon) -> bool:
    try:
        return "not ready" in daemon.text("/master")
    except httpx.TransportError:
        return False


# `out_of_date`: stale before the hanging monitoring thread ends the process.
SHORT_TIMEOUTS = {"sleep_ms": 100, "query_timeout_ms": 900, "max_staleness_ms": 1000}
# `not_ready`: the first check of the silent host stays pending.
LONG_TIMEOUTS = {"connect_timeout": 60, "query_timeout_ms": 60_000}


@pytest.mark.parametrize(
    ("outage", "variables"),
    [
        (stopped, {}),
        (frozen, {}),
        (broken, {}),
        (out_of_date, SHORT_TIMEOUTS),
        (not_ready, LONG_TIMEOUTS),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_without_pg_status_all_servers_keep_their_state(
    cluster: Cluster,
    make_daemon: DaemonFactory,
    make_haproxy: HAProxyFactory,
    outage: Callable[[Daemon, Cluster], AbstractContextManager[None]],
    variables: dict[str, object],
) -> None:
    """Sessions stay open, new ones are accepted, and no server changes its state."""
    daemon = make_daemon(cluster, **variables)
    haproxy = make_haproxy(cluster, daemon)
    with haproxy.write() as write, haproxy.read() as read:
        before = went_down(haproxy)
        with outage(daemon, cluster):
            wait_until("HAProxy detects it", lambda: not haproxy.pg_status_is_up())
            haproxy.wait_for_checks(50)
            assert went_down(haproxy) == before
            assert host_of(write) == cluster.primary.address
            haproxy.settle(cluster)
            assert haproxy.writes_reach(cluster.primary.address)
        assert is_open(read)


def went_down(haproxy: HAProxy) -> dict[tuple[str, str], str]:
    """The number of times that each server was marked down."""
    return {server: row["chkdown"] for server, row in haproxy.checked().items()}


def test_a_failover_without_pg_status_is_followed_when_it_returns(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, make_haproxy: HAProxyFactory
) -> None:
    """Until then no session is sent to the new master."""
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
    """The file contains its line as a comment."""
    cluster = make_cluster()
    first, second = make_daemon(cluster), make_daemon(cluster)
    line = "server second 192.0.2.8:8000"
    changes = {f"#{line}": line, "192.0.2.8:8000": f"{second.address}:{second.port}"}
    haproxy = make_haproxy(cluster, first, changes)
    first.stop()
    wait_until("HAProxy detects it", lambda: not haproxy.pg_status_is_up())
    cluster.fail_over()
    wait_until("writes", lambda: haproxy.writes_reach(cluster.primary.address))


def test_no_session_is_accepted_before_pg_status_responds(
    cluster: Cluster, make_daemon: DaemonFactory, tmp_path: Path
) -> None:
    """HAProxy considers all servers up when it starts; this state is not kept."""
    daemon = make_daemon(cluster)
    daemon.stop()
    with HAProxy(tmp_path, cluster, daemon) as haproxy:
        wait_until("all servers are down", lambda: not haproxy.up("write") | haproxy.up("read"))
        haproxy.wait_for_checks(10)
        assert not haproxy.up("write") | haproxy.up("read")
        with pytest.raises(psycopg.OperationalError):
            haproxy.write()
        daemon.launch()
        haproxy.settle(cluster)


def test_writes_are_refused_while_two_servers_are_up(
    cluster: Cluster, daemon: Daemon, make_haproxy: HAProxyFactory
) -> None:
    """A replica is forced up with its checks disabled."""
    haproxy = make_haproxy(cluster, daemon)
    replica = f"write/{cluster.replicas[0].address}"
    haproxy.execute(f"disable health {replica}")
    haproxy.execute(f"set server {replica} health up")
    for _ in range(5):
        with pytest.raises(psycopg.OperationalError):
            haproxy.write()
    haproxy.execute(f"enable health {replica}")
    haproxy.settle(cluster)
    assert haproxy.writes_reach(cluster.primary.address)


def test_a_reload_keeps_the_state_and_the_sessions(
    cluster: Cluster, make_daemon: DaemonFactory, make_haproxy: HAProxyFactory
) -> None:
    """Even while pg-status does not respond."""
    daemon = make_daemon(cluster)
    haproxy = make_haproxy(cluster, daemon)
    with haproxy.write() as session:
        daemon.stop()
        haproxy.reload()
        haproxy.wait_for_checks(20)
        haproxy.settle(cluster)
        assert haproxy.writes_reach(cluster.primary.address)
        assert is_open(session)
