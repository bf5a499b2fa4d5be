"""Dropped packets and name servers that do not respond: the other hosts are unaffected."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from pgstatus.demo.cluster import Server
from tests.conftest import ClusterFactory, DaemonFactory
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

SLEEP = 0.2
# A check without a response takes twice as long; the load of the machine must not matter.
HANG = 4
LONGEST = 2.0


@contextmanager
def dropped(address: str) -> Iterator[None]:
    """All packets from and to the address are dropped, as behind a dead router."""
    rules = f"""table inet cut {{
      chain arriving {{ type filter hook input priority 0;
        ip daddr {address} drop
        ip saddr {address} drop
      }}
    }}"""
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "cut"], check=True)


def oldest_check(daemon: Daemon, *servers: Server, seconds: float) -> float:
    """The greatest age of a ``checked_at`` of the servers, seen over some seconds."""
    oldest, ends = 0.0, time.monotonic() + seconds
    while time.monotonic() < ends:
        asked = datetime.now(UTC)
        entries = {entry["host"]: entry for entry in daemon.json("/hosts")}
        for server in servers:
            checked = datetime.fromisoformat(entries[server.address]["checked_at"])
            oldest = max(oldest, (asked - checked).total_seconds())
    return oldest


def test_dropped_packets(make_cluster: ClusterFactory, make_daemon: DaemonFactory) -> None:
    cluster = make_cluster()
    cut, other = cluster.replicas
    daemon = make_daemon(
        cluster, sleep_ms=int(1000 * SLEEP), query_timeout_ms=1000 * HANG, connect_timeout=HANG
    )
    with dropped(cut.address):
        assert oldest_check(daemon, cluster.primary, other, seconds=6) < LONGEST
        assert daemon.host(cut.address)["error"] in {
            "no answer to the query within 4 s",
            "no connection within 4 s",
        }
        wait_until("it is dead", lambda: not daemon.host(cut.address)["alive"], timeout=30)
        assert daemon.text("/replica") == other.address
    wait_until("it is back", lambda: daemon.host(cut.address)["sync_by_time"], timeout=30)


def test_an_unreachable_primary_is_replaced_when_another_is_promoted(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster()
    daemon = make_daemon(cluster, sleep_ms=1000, connect_timeout=0.5)
    with dropped(cluster.primary.address):
        cluster.promote(cluster.replicas[0])
        wait_until("the new master", lambda: daemon.text("/master") == cluster.primary.address, 5)


def test_a_name_server_that_does_not_respond(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    """Packets to the name server of the namespace are dropped: a lookup takes ten seconds."""
    cluster = make_cluster()
    addresses = ",".join(server.address for server in cluster.servers)
    names = ",".join(f"pg{number}.example" for number in range(8))
    with dropped("127.98.0.1"):
        daemon = make_daemon(
            hosts=f"{names},{addresses}",
            pg_port=cluster.primary.port,
            sleep_ms=int(1000 * SLEEP),
            connect_timeout=HANG,
        )
        assert oldest_check(daemon, *cluster.servers, seconds=4) < LONGEST
        assert daemon.host("pg0.example")["error"] == "no connection within 4 s"
        assert daemon.text("/master") == cluster.primary.address
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 8
