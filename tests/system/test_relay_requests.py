"""Requests to a relay: the responses are those of a watcher, positions are passed on."""

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.conftest import Daemons
from tests.support.certificates import Certificates
from tests.support.daemon import Daemon
from tests.support.fleet import Fleet, all_in_sync
from tests.support.waiting import wait_until

# Longer than the tests: positions are checked because requests wait for them.
SLEEP_MS = 60_000
LIMITS: dict[str, object] = {"sleep_ms": SLEEP_MS, "max_staleness_ms": 0}


@pytest.fixture(scope="module")
def fleet(cluster: Cluster, session_daemons: Daemons) -> Fleet:
    return Fleet(session_daemons, cluster, watchers=2)


@pytest.fixture(scope="module")
def relay(fleet: Fleet) -> Daemon:
    relay = fleet.relay()
    wait_until("all hosts are in sync", lambda: all_in_sync(relay))
    return relay


@pytest.mark.parametrize(
    "path",
    [
        "/master",
        "/replica",
        "/sync_by_time",
        "/hosts",
        "/replicas_info",
        "/status?host={replica}",
        "/is_alive?host={replica}",
        "/explain/replica?lag_ms=1000",
        "/watch/master?since=0",
        "/ready",
    ],
)
def test_responses_have_the_form_of_those_of_a_watcher(
    fleet: Fleet, relay: Daemon, cluster: Cluster, path: str
) -> None:
    path = path.format(replica=cluster.replicas[0].address)

    def form(daemon: Daemon) -> object:
        response = daemon.get(path, Accept="application/json")
        assert response.status_code == 200
        content = response.json() if response.text.startswith(("{", "[")) else None
        return response.headers["Content-Type"], _form(content)

    assert form(relay) == form(fleet.watchers[0])


def _form(content: object) -> object:
    """The names of the fields, without those of a relay."""
    if isinstance(content, dict):
        return {
            name: _form(value)
            for name, value in content.items()
            if name not in {"watcher", "watchers"}
        }
    return [_form(item) for item in content] if isinstance(content, list) else None


def test_the_watcher_of_each_host_is_reported(fleet: Fleet, relay: Daemon) -> None:
    urls = {watcher.url for watcher in fleet.watchers}

    def watchers_are_named() -> bool:
        # All watchers run on this machine, so their URLs distinguish them.
        found = {host["watcher"].partition("(")[2].removesuffix(")") for host in hosts()}
        return found <= urls

    def hosts() -> list[dict[str, Any]]:
        return list(relay.json("/hosts"))

    # Results that arrived before the other watcher was known are of the only one of its name.
    wait_until("the watchers are named", watchers_are_named)
    assert all("watcher" not in host for host in fleet.watchers[0].json("/hosts"))


def test_fresh_writes_are_read_from_replicas_and_never_missing(
    daemons: Daemons, cluster: Cluster
) -> None:
    fleet = Fleet(daemons, cluster, watchers=0)
    watchers = [fleet.watcher((), **LIMITS) for _ in range(2)]
    relay = fleet.relay(*watchers, **LIMITS)
    readers = {s.address: psycopg.connect(s.conninfo, autocommit=True) for s in cluster.servers}
    writer = readers[cluster.primary.address]
    writer.execute("CREATE TABLE IF NOT EXISTS written_for_relay (n int)")
    from_replicas = 0
    for n in range(50):
        writer.execute("INSERT INTO written_for_relay VALUES (%s)", [n])
        row = writer.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
        assert row is not None
        host = relay.text(f"/replica?min_lsn={row[0]}&wait_ms=3000")
        query = "SELECT FROM written_for_relay WHERE n = %s"
        assert readers[host].execute(query, [n]).fetchone() is not None
        from_replicas += host != cluster.primary.address
    writer.execute("DROP TABLE written_for_relay")
    for reader in readers.values():
        reader.close()
    assert from_replicas >= 48


def test_the_metric_of_the_upstreams(fleet: Fleet, relay: Daemon) -> None:
    for watcher in fleet.watchers:
        assert f'pg_status_upstream_up{{upstream="{watcher.url}"}} 1.0' in relay.text("/metrics")
    assert "pg_status_upstream_up{" not in fleet.watchers[0].text("/metrics")


def test_a_relay_has_no_evidence_of_its_own(relay: Daemon) -> None:
    for path in ("/evidence", "/evidence/positions?wait_ms=10"):
        response = relay.get(path)
        assert response.status_code == 404
        assert "relay" in response.json()["error_text"]


@pytest.fixture
def documents(fleet: Fleet) -> Iterator[Iterator[dict[str, object]]]:
    """The documents of a watcher as they arrive."""
    with httpx.stream("GET", f"{fleet.watchers[0].url}/evidence", timeout=10) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        lines = response.iter_lines()
        yield (
            json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")
        )


def test_the_first_document_is_complete_and_others_are_not(
    documents: Iterator[dict[str, object]], cluster: Cluster
) -> None:
    first, second, third = (next(documents) for _ in range(3))
    assert first["complete"]
    assert not second["complete"]
    assert not third["complete"]
    hosts = {result["host"] for result in first["results"]}  # type: ignore[attr-defined]
    assert hosts == {server.address for server in cluster.servers}
    assert first["sent"] < second["sent"] < third["sent"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("query", "status"), [("", 400), ("?wait_ms=x", 400), ("?wait_ms=1", 204), ("?wait_ms=0", 204)]
)
def test_positions_are_requested(fleet: Fleet, query: str, status: int) -> None:
    assert fleet.watchers[0].get(f"/evidence/positions{query}").status_code == status


def test_check_of_a_relay(fleet: Fleet, capfd: pytest.CaptureFixture[str]) -> None:
    relay = fleet.prepare_relay(*fleet.watchers, fleet.daemons.prepare(fleet.cluster))
    command = [sys.executable, "-m", "pgstatus", "check"]
    done = subprocess.run(command, env=relay.environment, check=False)
    output = capfd.readouterr().out
    assert done.returncode == 1
    assert output.endswith("\nFAILED: 2 of 3 upstreams deliver evidence\n")
    assert "Connection refused" in output


def test_access_by_token_and_certificates(
    daemons: Daemons, cluster: Cluster, network: Network, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path, network.address(1))
    certificate, key = certificates.client()
    token = tmp_path / "token"
    token.write_text("a-token-of-the-watchers\n")
    token.chmod(0o600)
    hosts = ",".join(f"{server.address}:{server.port}" for server in cluster.servers)
    watcher = daemons.prepare(
        None,
        clusters="orders",
        orders__hosts=hosts,
        http_token_file=token,
        http_tls_client_ca=certificates.ca,
        **certificates.variables,
    )
    # The client of the test has no certificate.
    with watcher.launched():
        wait_until("it listens", partial(is_logged, watcher, "listening on https://"))
        address = watcher.url.replace("http:", "https:") + "/c/orders"
        access: dict[str, object] = {
            "upstreams": address,
            "upstreams_token_file": token,
            "upstreams_tls_ca": certificates.ca,
            "upstreams_tls_cert": certificate,
            "upstreams_tls_key": key,
        }
        for missing, reason in (
            ("upstreams_tls_ca", "TLS: "),
            ("upstreams_token_file", "401 Unauthorized: token required"),
        ):
            few = {name: value for name, value in access.items() if name != missing}
            with daemons.prepare(None, **few).launched() as refused:
                wait_until("the reason is logged", partial(is_logged, refused, reason))
        relay = daemons.start(None, **access)
        assert relay.text("/master") == cluster.primary.address


def is_logged(daemon: Daemon, text: str) -> bool:
    return text in daemon.log
