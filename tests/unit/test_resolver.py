"""Name resolution: one lookup at a time per host, and no delay for other hosts.

``getaddrinfo`` is replaced here: a name server that does not respond needs a network namespace of
its own; ``tests/network`` has one.
"""

import asyncio
import socket
import threading
from typing import Any

import pytest

from pgstatus.monitor.resolver import Resolver


def test_literals_and_sockets_are_not_looked_up() -> None:
    async def run() -> None:
        for name in ("10.1.2.3", "::1", "/run/postgresql"):
            assert await Resolver(name).addresses() == (name,)

    asyncio.run(run())


def test_localhost_is_found_and_invalid_names_are_not() -> None:
    async def run() -> None:
        assert set(await Resolver("localhost").addresses()) <= {"127.0.0.1", "::1"}
        for name in ("no-such-host.invalid", "x" * 64 + ".example"):
            with pytest.raises(OSError, match=r"."):
                await Resolver(name).addresses()

    asyncio.run(run())


def test_a_lookup_in_progress_is_joined_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, calls = threading.Event(), []

    def slow(*arguments: object, **options: object) -> list[Any]:
        calls.append(arguments)
        answered.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("10.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def run() -> None:
        resolver = Resolver("slow.example")
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await resolver.addresses()
        assert len(calls) == 1
        answered.set()
        assert await resolver.addresses() == ("10.0.0.1",)
        assert len(calls) == 1
        await resolver.addresses()
        assert len(calls) == 2

    asyncio.run(run())


def test_a_lookup_that_ended_meanwhile_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its addresses may be those of an earlier round, before the name moved."""
    answered, found = threading.Event(), ["10.0.0.1"]

    def slow(*arguments: object, **options: object) -> list[Any]:
        addresses = list(found)
        answered.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (a, 0)) for a in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def run() -> None:
        resolver = Resolver("slow.example")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await resolver.addresses()
        earlier = resolver.lookup()
        answered.set()
        await asyncio.wait([earlier])
        found[:] = ["10.0.0.2"]
        assert await resolver.addresses() == ("10.0.0.2",)

    asyncio.run(run())
