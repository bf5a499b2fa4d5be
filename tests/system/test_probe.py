"""The probe by itself against a real server, where the daemon around it would hide what it does."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from pgstatus.demo.cluster import PASSWORD, Cluster
from pgstatus.demo.network import Network
from pgstatus.errors import CheckError
from pgstatus.monitor.probe import Probe
from pgstatus.settings.target import Target
from tests.support.illhosts import listener


def target(host: str, port: int, **changes: Any) -> Target:
    login = {"user": "postgres", "password": PASSWORD, "dbname": "postgres"}
    limits = {"connect_timeout": 2.0, "query_timeout": 5.0, "max_age": 300.0}
    return Target({"host": host, "port": str(port), **login}, **(limits | changes))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_address_that_swallows_packets_leaves_the_next_its_share(
    cluster: Cluster, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with two addresses, as a name server would give them; only the second one works."""
    silent, server = network.address(249), cluster.primary

    def two(*arguments: object, **options: object) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 0))
            for address in (silent, server.address)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", two)

    async def run() -> None:
        probe = Probe(target("two.example", server.port, connect_timeout=1.0), lambda: None)
        assert not (await probe.check()).in_recovery
        probe.close()

    with listener(silent, None, server.port):
        asyncio.run(run())


def test_failed_checks_leave_no_open_files(cluster: Cluster, network: Network) -> None:
    silent = network.address(249)

    async def run(port: int) -> None:
        probes = [
            Probe(target(silent, port, connect_timeout=0.02), lambda: None),
            Probe(target(silent, 1), lambda: None),
            Probe(target(cluster.primary.address, cluster.primary.port, max_age=0), lambda: None),
        ]

        async def check_all() -> None:
            for probe in probes:
                try:
                    await probe.check()
                except CheckError:
                    continue

        await check_all()
        before = open_files()
        for _ in range(50):
            await check_all()
        assert open_files() <= before

    with listener(silent, None) as port:
        asyncio.run(run(port))


def test_a_connection_that_the_server_ends_is_noticed_and_costs_no_check(cluster: Cluster) -> None:
    server = cluster.primary

    async def run() -> None:
        lost = asyncio.Event()
        probe = Probe(target(server.address, server.port), lost.set)
        await probe.check()
        end = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'pg-status' AND pid <> pg_backend_pid()"
        )
        await asyncio.to_thread(server.sql, end)
        async with asyncio.timeout(10):
            await lost.wait()
        await probe.check()
        probe.close()

    asyncio.run(run())
