"""One daemon that monitors several real clusters: paths, outputs, reload, and independence."""

import json
import socket
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pgstatus.demo.cluster import Cluster, Server
from pgstatus.demo.network import Network
from tests.conftest import ClusterFactory, Daemons
from tests.support.daemon import Daemon
from tests.support.events import Subscriber
from tests.support.running import answers
from tests.support.scrape import scrape
from tests.support.several import Directory, hosts_of, reload, variables_of
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def daemon(pair: Mapping[str, Cluster], session_daemons: Daemons) -> Daemon:
    return session_daemons.start(**variables_of(pair))


def test_each_cluster_has_its_own_answers(daemon: Daemon, pair: Mapping[str, Cluster]) -> None:
    for _ in range(3):  # from the application, and from the response cache
        for name, cluster in pair.items():
            assert daemon.text(f"/c/{name}/master") == cluster.primary.address
            assert len(daemon.json(f"/c/{name}/hosts")) == len(cluster.servers)
    orders = pair["orders"]
    names = {daemon.text("/c/orders/replica?lag_ms=100000") for _ in range(4)}
    assert names == {replica.address for replica in orders.replicas}


@pytest.mark.parametrize("form", ["/c/my%2Dshop/master", "http://x/c/my-shop/master"])
def test_other_forms_of_a_path(daemon: Daemon, pair: Mapping[str, Cluster], form: str) -> None:
    """The response cache finds the cluster in the bytes of the request."""
    for _ in range(2):
        with socket.create_connection((daemon.address, daemon.port), 5) as client:
            client.sendall(f"GET {form} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            response = b"".join(iter(lambda: client.recv(4096), b"")).decode()
        assert response.endswith(f"\r\n\r\n{pair['my-shop'].primary.address}")


def test_paths_without_the_name_of_a_cluster(daemon: Daemon) -> None:
    for path in ("/master", "/replica?lag_ms=5", "/hosts", "/watch", "/explain/master"):
        response = daemon.get(path)
        assert response.status_code == 404
        assert "use /c/NAME/" in response.json()["error_text"]
        assert "orders, my-shop" in response.json()["error_text"]
    for path in ("/live", "/ready", "/health", "/version", "/metrics", "/", "/overview"):
        assert daemon.get(path).status_code == 200
    assert daemon.get("/unknown").status_code == 404


def test_an_unknown_cluster(daemon: Daemon) -> None:
    for path in ("/c/users/master", "/c/users/live", "/c/users/", "/c/users", "/c/users/version"):
        response = daemon.get(path)
        assert response.status_code == 404
        assert response.json() == {"error_text": "unknown cluster users; see /clusters"}


def test_the_list_of_clusters(daemon: Daemon, pair: Mapping[str, Cluster]) -> None:
    entries = daemon.json("/clusters")
    assert [entry["name"] for entry in entries] == list(pair)
    for entry in entries:
        cluster = pair[entry["name"]]
        assert entry["master"] == f"{cluster.primary.address}:{cluster.primary.port}"
        assert (entry["ready"], entry["stale"], entry["error"]) == (True, False, None)
        assert (entry["hosts"], entry["replicas"]) == (
            len(cluster.servers), len(cluster.replicas),
        )  # fmt: skip
    assert daemon.json("/overview")["clusters"] == daemon.json("/clusters")


def test_the_page_of_a_cluster(daemon: Daemon) -> None:
    moved = daemon.get("/c/orders")
    assert (moved.status_code, moved.headers["location"]) == (308, "orders/")
    assert "<html" in daemon.text("/c/orders/")
    assert daemon.json("/c/orders/overview")["cluster"] == "orders"


def test_the_metrics_name_the_cluster(daemon: Daemon, pair: Mapping[str, Cluster]) -> None:
    daemon.text("/c/orders/master")
    found = scrape(daemon)
    for name, cluster in pair.items():
        host = f"{cluster.primary.address}:{cluster.primary.port}"
        assert found["pg_status_ready"][(name,)] == 1
        assert found["pg_status_host_master"][name, host] == 1
    assert found["pg_status_http_requests_total"]["orders", "/master", "200"] >= 1
    only = daemon.text("/c/orders/metrics")
    assert 'cluster="orders"' in only
    assert "my-shop" not in only


def test_a_waiting_request_belongs_to_its_cluster(
    daemon: Daemon, pair: Mapping[str, Cluster]
) -> None:
    for name, cluster in pair.items():
        cluster.primary.sql("CREATE TABLE IF NOT EXISTS t (i int)")
        cluster.primary.sql("INSERT INTO t VALUES (1)")
        [(lsn,)] = cluster.primary.sql("SELECT pg_current_wal_insert_lsn()::text")
        answer = daemon.json(f"/c/{name}/replica?min_lsn={lsn}&wait_ms=5000&fallback=none")
        assert answer["host"] in {replica.address for replica in cluster.replicas}


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "clusters.d")


def names(daemon: Daemon) -> list[str]:
    return [entry["name"] for entry in daemon.json("/clusters")]


@pytest.fixture
def watched(
    pair: Mapping[str, Cluster], daemons: Daemons, directory: Directory
) -> Iterator[tuple[Daemon, Subscriber]]:
    """A daemon with one file, and a subscriber of that cluster, which no reload may affect."""
    orders = pair["orders"]
    directory.define("orders", hosts_of(orders))
    daemon = daemons.start(clusters_dir=directory.path)
    with Subscriber.connect((daemon.address, daemon.port), "/c/orders/watch/master") as subscriber:
        assert subscriber.hosts() == [orders.primary.address]
        sessions = {pid for server in orders.servers for (pid,) in _sessions(server)}
        yield daemon, subscriber
        # The stream goes on with events that extend the life of the last state.
        assert subscriber.next("alive").data
        assert sessions & {pid for server in orders.servers for (pid,) in _sessions(server)}


def _sessions(server: Server) -> list[tuple[Any, ...]]:
    return server.sql("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pg-status%%'")


def test_files_are_added_changed_and_removed(
    watched: tuple[Daemon, Subscriber], pair: Mapping[str, Cluster], directory: Directory
) -> None:
    daemon, _ = watched
    shop = pair["my-shop"]
    assert daemon.text("/master") == pair["orders"].primary.address  # the only cluster
    assert daemon.get("/c/my-shop/master").status_code == 404

    directory.define("my-shop", hosts_of(shop))
    assert reload(daemon).returncode == 0
    wait_until("it is ready", lambda: answers(daemon.client, "/c/my-shop/ready"))
    assert daemon.text("/c/my-shop/master") == shop.primary.address
    assert daemon.get("/master").status_code == 404

    directory.define("my-shop", f"{shop.replicas[0].address}:{shop.replicas[0].port}")
    assert reload(daemon).returncode == 0
    assert len(daemon.json("/c/my-shop/hosts")) == 1
    assert daemon.get("/c/my-shop/master").status_code == 404  # it has none

    directory.remove("my-shop")
    assert reload(daemon).returncode == 0
    assert daemon.get("/c/my-shop/master").status_code == 404
    assert names(daemon) == ["orders"]


def test_an_invalid_file_is_refused_and_affects_no_other(
    watched: tuple[Daemon, Subscriber], pair: Mapping[str, Cluster], directory: Directory
) -> None:
    daemon, _ = watched
    directory.define("my-shop", "a,,b", http_port=1)
    done = reload(daemon)
    assert done.returncode == 1
    assert "some clusters was refused" in done.stderr
    [orders, shop] = daemon.json("/clusters")
    assert orders["error"] is None
    assert "pg_status__http_port: it applies to the whole process" in shop["error"]
    assert "cluster my-shop: pg_status__hosts, entry 2 of 3: empty" in daemon.log
    assert daemon.get("/c/my-shop/master").status_code == 503

    # A cluster that is monitored keeps its settings.
    directory.define("my-shop", hosts_of(pair["my-shop"]))
    assert reload(daemon).returncode == 0
    wait_until("it is ready", lambda: answers(daemon.client, "/c/my-shop/ready"))
    directory.define("my-shop", hosts_of(pair["my-shop"]), sleep_ms="soon")
    assert reload(daemon).returncode == 1
    assert daemon.text("/c/my-shop/master") == pair["my-shop"].primary.address
    [_, shop] = daemon.json("/clusters")
    assert "pg_status__sleep_ms='soon'" in shop["error"]
    assert shop["master"] is not None


def test_a_start_with_an_invalid_file(
    pair: Mapping[str, Cluster], daemons: Daemons, directory: Directory
) -> None:
    directory.define("orders", hosts_of(pair["orders"]))
    directory.define("my-shop", "")
    daemon = daemons.start(clusters_dir=directory.path)
    assert daemon.text("/c/orders/master") == pair["orders"].primary.address
    assert names(daemon) == ["orders", "my-shop"]
    assert "cluster my-shop: pg_status__hosts is not set" in daemon.log


def test_a_token_that_was_replaced_gives_no_access_to_clusters_without_changes(
    pair: Mapping[str, Cluster], daemons: Daemons, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-more-than-16\n")
    daemon = daemons.start(**variables_of(pair), http_token_file=tokens)
    old = {"Authorization": "Bearer a-token-of-more-than-16"}
    new = {"Authorization": "Bearer another-token-of-more"}
    address = (daemon.address, daemon.port)
    assert daemon.get("/c/orders/master", **old).status_code == 200
    assert daemon.get("/c/orders/master").status_code == 401
    headers = f"Authorization: {old['Authorization']}\r\n"
    sock = socket.create_connection(address, 5)
    with Subscriber(sock, "/c/my-shop/watch", headers=headers) as subscriber:
        subscriber.next("hosts")
        tokens.write_text("another-token-of-more\n")
        assert reload(daemon).returncode == 0
        assert daemon.get("/c/orders/master", **old).status_code == 401
        assert daemon.get("/c/orders/master", **new).status_code == 200
        with pytest.raises(EOFError):
            _read_until_the_end(subscriber)


def _report(path: Path) -> Any:
    text = path.read_text() if path.exists() else ""
    return json.loads(text) if text.endswith("}") else None


def _read_until_the_end(subscriber: Subscriber) -> None:
    while True:
        subscriber.next()


def test_outputs_name_the_cluster(
    pair: Mapping[str, Cluster], daemons: Daemons, tmp_path: Path
) -> None:
    script = f'cat > {tmp_path}/report-"$PG_STATUS_CLUSTER"'
    daemon = daemons.start(
        **variables_of(pair),
        on_change=f"sh -c '{script}'",
        state_file=tmp_path / "state.json",
        log_format="json",
    )
    for name, cluster in pair.items():
        wait_until("the state is written", (tmp_path / f"{name}.json").exists)
        found = wait_until("the command has run", partial(_report, tmp_path / f"report-{name}"))
        assert (found["cluster"], found["master"]["host"]) == (name, cluster.primary.address)
    lines = [json.loads(line) for line in daemon.log.splitlines()]
    masters = {line["cluster"]: line["host"] for line in lines if line.get("event") == "master"}
    assert masters == {n: f"{c.primary.address}:{c.primary.port}" for n, c in pair.items()}


def test_a_failover_is_reported_beside_a_cluster_that_does_not_respond(
    make_cluster: ClusterFactory, daemons: Daemons, network: Network
) -> None:
    cluster: Cluster = make_cluster(replicas=1)
    with socket.create_server((network.address(240), 5432)) as silent:
        address, port = silent.getsockname()
        daemon = daemons.start(
            clusters="good,silent",
            good__hosts=hosts_of(cluster),
            silent__hosts=f"{address}:{port}",
        )
        cluster.fail_over()
        wait_until(
            "the new master", lambda: daemon.text("/c/good/master") == cluster.primary.address
        )
        assert daemon.get("/c/silent/master").status_code == 404


_PROGRAM = """
import pathlib, sys
from pgstatus.monitor.latest import Latest
from pgstatus.cli.main import main
good = Latest.publish
def publish(self, snapshot):
    if pathlib.Path(sys.argv[1]).exists() and snapshot.ready and len(snapshot.hosts) == 2:
        raise ZeroDivisionError("a defect")
    return good(self, snapshot)
Latest.publish = publish
sys.exit(main([]))
"""


def test_a_cluster_whose_monitor_fails_repeatedly_does_not_end_the_others(
    pair: Mapping[str, Cluster], daemons: Daemons, tmp_path: Path
) -> None:
    daemon = daemons.prepare(**variables_of(pair), max_staleness_ms=2000)
    trigger = tmp_path / "defect"
    daemon.command = [sys.executable, "-c", _PROGRAM, str(trigger)]
    with daemon:
        trigger.touch()
        wait_until("it has failed", lambda: "my-shop: the monitoring has failed 3" in daemon.log)
        wait_until(
            "its answers are refused", lambda: daemon.get("/c/my-shop/master").status_code == 503
        )
        assert daemon.text("/c/orders/master") == pair["orders"].primary.address
        assert daemon.process.poll() is None
        assert daemon.get("/ready").status_code in {200, 503}
