"""The end of clusters: of all when the process stops, of some when a reload removes them; and what
the failure of the thread that they share does.
"""

import os
import signal
import socket
import ssl
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.conftest import Daemons
from tests.support.certificates import Certificates
from tests.support.daemon import Daemon
from tests.support.events import Subscriber
from tests.support.manager import Manager
from tests.support.several import Directory, hosts_of, reload, variables_of
from tests.support.waiting import wait_until

_MANY = 50


def test_streams_end_when_the_authorities_of_clients_change(
    pair: Mapping[str, Cluster], daemons: Daemons, tmp_path: Path
) -> None:
    """Their clients may have no access any more."""
    daemon = daemons.prepare()
    certificates = Certificates(tmp_path, daemon.address)
    variables = {**variables_of(pair), **certificates.variables}
    daemon = daemons.prepare(**variables, http_tls_client_ca=certificates.ca)
    context = certificates.context(certificates.client())
    with daemon.launched():

        def connect() -> ssl.SSLSocket:
            sock = socket.create_connection((daemon.address, daemon.port), 10)
            return context.wrap_socket(sock, server_hostname=daemon.address)

        def answers() -> bool:
            try:
                connect().close()
            except OSError:
                return False
            return True

        wait_until("it listens", answers)
        with Subscriber(connect(), "/c/orders/watch") as subscriber:
            subscriber.next("hosts")
            trustme.CA().cert_pem.write_to_path(certificates.ca)
            daemon.process.send_signal(signal.SIGHUP)
            with pytest.raises(EOFError):
                _read(subscriber)


def _read(subscriber: Subscriber) -> None:
    """Read until the stream ends; there is an event every 10 s at least."""
    for _ in range(4):
        subscriber.next()


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_the_commands_of_many_clusters_end_together(
    daemons: Daemons, network: Network, tmp_path: Path
) -> None:
    """Each of them ignores SIGTERM."""
    runs = tmp_path / "runs"
    runs.mkdir()
    daemon = daemons.start(
        clusters=",".join(f"c{number}" for number in range(_MANY)),
        hosts=f"{network.address(250)}:1",  # no server
        on_change=f"""sh -c 'trap "" TERM; echo $$ > {runs}/$PG_STATUS_CLUSTER; sleep 60'""",
        log_level="error",
    )

    def pids() -> list[int]:
        texts = [path.read_text() for path in runs.iterdir()]
        return [int(text) for text in texts if text] if all(texts) else []

    wait_until("all run", lambda: len(pids()) == _MANY, 30)
    assert daemon.stop() == 0  # within 10 s
    assert not [pid for pid in pids() if _is_running(pid)]


def test_requests_of_a_cluster_end_when_it_is_removed(
    pair: Mapping[str, Cluster], daemons: Daemons, tmp_path: Path
) -> None:
    directory = Directory(tmp_path / "clusters.d")
    for name, cluster in pair.items():
        directory.define(name, hosts_of(cluster))
    daemon = daemons.start(clusters_dir=directory.path)
    event = daemon.json("/c/my-shop/watch/master?since=0")["id"]
    paths = [
        f"/c/my-shop/watch/master?since={event}&wait_ms=30000",
        "/c/my-shop/replica?min_lsn=FF/0&wait_ms=5000&fallback=none",
    ]
    address = (daemon.address, daemon.port)
    with (
        Subscriber.connect(address, "/c/my-shop/watch") as subscriber,
        ThreadPoolExecutor() as pool,
    ):
        subscriber.next("hosts")
        waiting = [pool.submit(daemon.get, path) for path in paths]
        wait_until("one waits", lambda: "pg_status_watchers 2.0" in daemon.text("/metrics"))
        directory.remove("my-shop")
        assert reload(daemon).returncode == 0
        for response in waiting:
            assert response.result().status_code == 404
        with pytest.raises(EOFError):
            _read(subscriber)
    assert 'cluster="my-shop"' not in daemon.text("/metrics")
    assert daemon.text("/c/orders/master") == pair["orders"].primary.address


def test_a_reload_without_a_valid_file(
    pair: Mapping[str, Cluster], daemons: Daemons, tmp_path: Path
) -> None:
    directory = Directory(tmp_path / "clusters.d")
    for name, cluster in pair.items():
        directory.define(name, hosts_of(cluster))
    daemon = daemons.start(clusters_dir=directory.path)
    directory.remove("orders")
    directory.define("my-shop", "")
    (directory.path / os.fsdecode(b"\xff.env")).write_text("")
    assert reload(daemon).returncode == 1
    [shop, other] = daemon.json("/clusters")
    assert (shop["name"], shop["ready"]) == ("my-shop", True)
    assert "pg_status__hosts is not set" in shop["error"]
    assert "expected a name" in other["error"]
    assert daemon.text("/c/my-shop/master") == pair["my-shop"].primary.address
    assert daemon.get("/c/orders/master").status_code == 404

    # If no cluster were left, nothing changes.
    directory.remove("my-shop")
    directory.define("orders", "")
    assert reload(daemon).returncode == 1
    assert daemon.text("/c/my-shop/master") == pair["my-shop"].primary.address


_PROGRAM = """
import pathlib, sys
from pgstatus.daemon.runtime import Runtime
from pgstatus.cli.main import main
good = Runtime._beat
def beat(self):
    good(self)
    trigger = pathlib.Path(sys.argv[1])
    if trigger.exists():
        if "once" in trigger.read_text():
            trigger.unlink()
        raise ZeroDivisionError("a defect")
Runtime._beat = beat
sys.exit(main([]))
"""


def _with_failing_thread(daemons: Daemons, pair: Mapping[str, Cluster], trigger: Path) -> Daemon:
    daemon = daemons.prepare(**variables_of(pair))
    daemon.command = [sys.executable, "-c", _PROGRAM, str(trigger)]
    return daemon


def test_the_monitors_of_all_clusters_are_started_again_after_their_thread_has_failed(
    pair: Mapping[str, Cluster], daemons: Daemons, tmp_path: Path
) -> None:
    trigger = tmp_path / "defect"
    with _with_failing_thread(daemons, pair, trigger) as daemon:
        trigger.write_text("once")
        wait_until(
            "both were started again",
            lambda: all(f"{name}: the monitoring was restarted" in daemon.log for name in pair),
        )
        for name, cluster in pair.items():
            wait_until(
                "it has its master",
                lambda: daemon.text(f"/c/{name}/master") == cluster.primary.address,  # noqa: B023
            )
            seen = daemon.json(f"/c/{name}/hosts")[0]["checked_at"]
            wait_until(
                "checks go on",
                lambda: daemon.json(f"/c/{name}/hosts")[0]["checked_at"] != seen,  # noqa: B023
            )


def test_a_thread_that_fails_repeatedly_ends_the_process(
    pair: Mapping[str, Cluster], daemons: Daemons, tmp_path: Path
) -> None:
    trigger = tmp_path / "defect"
    with _with_failing_thread(daemons, pair, trigger) as daemon:
        trigger.write_text("always")
        assert daemon.process.wait(20) == os.EX_SOFTWARE
        assert "the process ends" in daemon.log  # it is written before the end


_DEFECT = """
import sys
from pgstatus.monitor.latest import Latest
from pgstatus.cli.main import main
good = Latest.publish
def publish(self, snapshot):
    if snapshot.ready and len(snapshot.hosts) == 2:
        raise ZeroDivisionError("a defect")
    return good(self, snapshot)
Latest.publish = publish
sys.exit(main([]))
"""


def test_the_start_is_complete_although_a_monitor_fails_repeatedly(
    pair: Mapping[str, Cluster], daemons: Daemons, tmp_path: Path
) -> None:
    """Otherwise the service manager would end the process."""
    manager = Manager(tmp_path / "notify")
    daemon = daemons.prepare(**variables_of(pair))
    daemon.environment["NOTIFY_SOCKET"] = manager.address
    daemon.command = [sys.executable, "-c", _DEFECT]
    with manager.socket, daemon.launched():
        manager.until("READY=1")
        wait_until(
            "it has failed", lambda: "my-shop: the monitoring has failed 3 times" in daemon.log
        )
        assert daemon.text("/c/orders/master") == pair["orders"].primary.address


def test_log_lines_of_other_threads_name_the_cluster(
    pair: Mapping[str, Cluster], daemons: Daemons
) -> None:
    daemon = daemons.start(
        **variables_of(pair),
        state_file="/proc/state.json",  # cannot be written
    )
    for name in pair:
        wait_until(
            lambda: daemon.log,
            lambda: f"{name}: state file /proc/{name}.json cannot" in daemon.log,  # noqa: B023
        )


def test_too_few_descriptors_for_the_hosts_are_reported(daemons: Daemons, network: Network) -> None:
    daemon = daemons.prepare(
        clusters=",".join(f"c{number}" for number in range(100)),
        hosts=f"{network.address(250)}:1",
        log_level="warning",
    )
    daemon.command = ["prlimit", "--nofile=256:256", "--", *daemon.command]
    with daemon:
        wait_until(
            "it is logged",
            lambda: "limit of open files, 256, is too low for the checks of 100" in daemon.log,
        )
        with socket.create_connection((daemon.address, daemon.port), 5) as client:
            client.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
