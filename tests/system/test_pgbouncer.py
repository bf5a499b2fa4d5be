"""A host may be a PgBouncer, in each of its pooling modes."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pgstatus.core.snapshot import Observation
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.conftest import ClusterFactory, DaemonFactory
from tests.support.bouncer import Bouncer, needs_pgbouncer
from tests.support.daemon import Daemon
from tests.support.probing import check_until, probing, target
from tests.support.waiting import wait_until

pytestmark = needs_pgbouncer


@contextmanager
def bouncers_before(
    cluster: Cluster, network: Network, directory: Path, **options: object
) -> Iterator[list[Bouncer]]:
    """A PgBouncer in front of each server."""
    with ExitStack() as undo:
        yield [
            undo.enter_context(
                Bouncer(
                    directory,
                    network.address(240 + number),
                    f"postgres = host={server.address} port={server.port}",
                    options,
                )
            )
            for number, server in enumerate(cluster.servers)
        ]


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_hosts_behind_pgbouncer(
    cluster: Cluster, make_daemon: DaemonFactory, network: Network, tmp_path: Path, mode: str
) -> None:
    with bouncers_before(cluster, network, tmp_path, pool_mode=mode) as bouncers:
        addresses = [bouncer.address for bouncer in bouncers]
        daemon = make_daemon(hosts=",".join(addresses), pg_port=Bouncer.port)
        try:
            wait_until("the master", lambda: daemon.text("/master") == addresses[0])
            wait_until("replicas in sync", lambda: daemon.text("/sync_by_time") in addresses[1:])
        except AssertionError as error:
            error.add_note(daemon.log + bouncers[0].log)
            raise
        assert all(daemon.host(address)["error"] is None for address in addresses)
        path = "/replica?min_lsn=FFFFFFFF/0&wait_ms=200"  # position checks
        assert daemon.text(path) == addresses[0]
        assert all(daemon.host(address)["error"] is None for address in addresses)


def test_a_full_pgbouncer_does_not_end_a_working_connection(
    cluster: Cluster, network: Network, tmp_path: Path
) -> None:
    options = {"max_client_conn": 2}
    with bouncers_before(cluster, network, tmp_path, **options) as (bouncer, *_):

        async def run() -> None:
            host = target(bouncer.address, Bouncer.port, max_age=0.2)
            async with probing(host) as probe:
                await probe.check()
                with bouncer.connect():
                    results = await check_until(
                        probe, "it is rejected", lambda r: getattr(r, "admits", True) is False
                    )
                    assert all(isinstance(result, Observation) for result in results)
                    assert "no more connections allowed" in str(results[-1])
                await check_until(probe, "it is accepted", lambda r: getattr(r, "admits", False))

        asyncio.run(run())


def test_a_pgbouncer_without_its_server_delays_no_other_host(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, network: Network, tmp_path: Path
) -> None:
    """It accepts the login, and the query waits for a server for two minutes."""
    cluster = make_cluster()
    with bouncers_before(cluster, network, tmp_path) as bouncers:
        addresses = [bouncer.address for bouncer in bouncers]
        daemon = make_daemon(hosts=",".join(addresses), pg_port=Bouncer.port, query_timeout_ms=400)
        wait_until("replicas in sync", lambda: daemon.text("/sync_by_time") in addresses[1:])
        cluster.replicas[0].crash()
        error = wait_until("it is reported", lambda: daemon.host(addresses[1])["error"])
        wait_until("it is dead", lambda: not daemon.host(addresses[1])["alive"])
        assert error
        for other in (addresses[0], addresses[2]):
            before = daemon.host(other)["checked_at"]
            wait_until("another check", lambda o=other, b=before: _is_later(daemon, o, b))  # type: ignore[misc]
            assert daemon.host(other)["error"] is None
        assert daemon.text("/master") == addresses[0]


def _is_later(daemon: Daemon, address: str, before: str) -> bool:
    return bool(daemon.host(address)["checked_at"] > before)
