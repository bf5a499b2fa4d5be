"""A host may be a PgBouncer: the checks need nothing that it does not let through."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.conftest import ClusterFactory, DaemonFactory
from tests.support.bouncer import Bouncer, needs_pgbouncer
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

pytestmark = needs_pgbouncer


@contextmanager
def bouncers_before(cluster: Cluster, network: Network, directory: Path) -> Iterator[list[Bouncer]]:
    """A PgBouncer before each server."""
    with ExitStack() as undo:
        yield [
            undo.enter_context(
                Bouncer(
                    directory,
                    network.address(240 + number),
                    f"postgres = host={server.address} port={server.port}",
                )
            )
            for number, server in enumerate(cluster.servers)
        ]


def test_hosts_behind_pgbouncer(
    cluster: Cluster, make_daemon: DaemonFactory, network: Network, tmp_path: Path
) -> None:
    with bouncers_before(cluster, network, tmp_path) as bouncers:
        addresses = [bouncer.address for bouncer in bouncers]
        daemon = make_daemon(hosts=",".join(addresses), pg_port=Bouncer.port)
        try:
            wait_until("the master", lambda: daemon.text("/master") == addresses[0])
            wait_until("replicas in sync", lambda: daemon.text("/sync_by_time") in addresses[1:])
        except AssertionError as error:
            error.add_note(daemon.log + bouncers[0].log)
            raise
        assert all(daemon.host(address)["error"] is None for address in addresses)


def test_a_pgbouncer_whose_server_is_gone_delays_nobody(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, network: Network, tmp_path: Path
) -> None:
    """It accepts the login, and lets the query wait for a server for two minutes."""
    cluster = make_cluster()
    with bouncers_before(cluster, network, tmp_path) as bouncers:
        addresses = [bouncer.address for bouncer in bouncers]
        daemon = make_daemon(hosts=",".join(addresses), pg_port=Bouncer.port, query_timeout_ms=400)
        wait_until("replicas in sync", lambda: daemon.text("/sync_by_time") in addresses[1:])
        cluster.replicas[0].crash()
        error = wait_until("it is told", lambda: daemon.host(addresses[1])["error"])
        wait_until("it is dead", lambda: not daemon.host(addresses[1])["alive"])
        assert error
        for other in (addresses[0], addresses[2]):
            before = daemon.host(other)["checked_at"]
            wait_until("another check", lambda o=other, b=before: _is_later(daemon, o, b))  # type: ignore[misc]
            assert daemon.host(other)["error"] is None
        assert daemon.text("/master") == addresses[0]


def _is_later(daemon: Daemon, address: str, before: str) -> bool:
    return bool(daemon.host(address)["checked_at"] > before)
