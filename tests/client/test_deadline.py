"""One deadline bounds a whole request: lookup of the name, all addresses, handshake, response."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pgstatus.client import AsyncPgStatusClient, ClientError, DeadlineError, UnreachableError
from tests.client.support import AskerFactory, Server
from tests.support.waiting import wait_until

DEADLINE = 0.5
COUNT = 20
LIMIT = 0.5 * COUNT * DEADLINE
"""A deadline for each of ``COUNT`` steps takes twice as long, and on a busy machine longer."""

NAME = "pg-status.test"
ADDRESSES = [f"127.77.8.{last}" for last in range(1, 1 + COUNT)]


def resolve_to(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], ready: threading.Event | None = None
) -> list[str]:
    """The name resolves to these addresses, as soon as ``ready`` is set; a list of all lookups."""
    original = socket.getaddrinfo
    names: list[str] = []

    def getaddrinfo(host: str | bytes, port: int, *arguments: Any, **options: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else host
        if name != NAME:
            return list(original(host, port, *arguments, **options))
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not an address")
        names.append(name)
        if ready is not None:
            ready.wait(2 * LIMIT)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return names


@pytest.fixture
def silent() -> Iterator[int]:
    """A port on which connections to any of the addresses time out: the queues are full."""
    sockets = []
    with socket.create_server((ADDRESSES[0], 0), backlog=0) as first:
        port = first.getsockname()[1]
        others = [socket.create_server((each, port), backlog=0) for each in ADDRESSES[1:]]
        for address in ADDRESSES:
            for _ in range(4):
                sockets.append(socket.socket())
                sockets[-1].setblocking(False)
                sockets[-1].connect_ex((address, port))
        yield port
        for each in (*sockets, *others):
            each.close()


def test_a_name_with_many_silent_addresses(
    make_asker: AskerFactory, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = resolve_to(monkeypatch, ADDRESSES)
    ask = make_asker(f"http://{NAME}:{silent}", deadline=DEADLINE)
    began = time.monotonic()
    with pytest.raises((DeadlineError, UnreachableError)):
        ask("master")
    assert time.monotonic() - began < LIMIT
    assert names


def test_a_silent_address_leaves_time_for_the_next(
    make_asker: AskerFactory, server: Server, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client for asyncio connects to the next address after 0.25 s."""
    address = server.url.removeprefix("http://").split(":")
    with socket.create_server((ADDRESSES[0], int(address[1])), backlog=0):
        clogs = []
        for _ in range(4):
            clogs.append(socket.socket())
            clogs[-1].setblocking(False)
            clogs[-1].connect_ex((ADDRESSES[0], int(address[1])))
        resolve_to(monkeypatch, [ADDRESSES[0], address[0]])
        ask = make_asker(f"http://{NAME}:{address[1]}", deadline=3.0)
        assert ask("replica").host == "pg2"
        for clog in clogs:
            clog.close()


def test_a_lookup_that_does_not_end(
    make_asker: AskerFactory, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = threading.Event()
    names = resolve_to(monkeypatch, [server.url.split("/")[2].split(":")[0]], ready)
    ask = make_asker(f"http://{NAME}:{server.url.split(':')[-1]}", deadline=DEADLINE)
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(DeadlineError):
            ask("replica")
        assert time.monotonic() - began < LIMIT
    ready.set()
    wait_until("the name is resolved", lambda: _answers(ask))
    assert len(names) <= 4


def _answers(ask: Any) -> bool:
    try:
        return bool(ask("replica"))
    except ClientError:
        return False


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_does_not_respond(make_asker: AskerFactory, scheme: str) -> None:
    with socket.create_server((ADDRESSES[0], 0)) as listener:
        ask = make_asker(
            f"{scheme}://{ADDRESSES[0]}:{listener.getsockname()[1]}", deadline=DEADLINE
        )
        began = time.monotonic()
        with pytest.raises(DeadlineError):
            ask("master")
        assert time.monotonic() - began < LIMIT


def test_a_wait_for_a_connection_of_the_pool(make_asker: AskerFactory, server: Server) -> None:
    server.may_answer.clear()
    ask = make_asker(server.url, deadline=DEADLINE, max_connections=1)
    began = time.monotonic()
    with pytest.raises(DeadlineError):
        ask.burst("replica", [{"lag_ms": lag} for lag in range(COUNT)])
    assert time.monotonic() - began < LIMIT


def test_the_wait_of_pg_status_is_added(make_asker: AskerFactory, server: Server) -> None:
    server.may_answer.clear()
    ask = make_asker(server.url, deadline=0.2)
    with ThreadPoolExecutor(1) as threads:
        chosen = threads.submit(ask, "replica", min_lsn="0/1", wait_ms=20_000)
        wait_until("the request has arrived", lambda: server.requests)
        time.sleep(0.4)  # longer than the deadline
        server.may_answer.set()
        assert chosen.result().host == "pg2"


def test_asyncio_is_not_blocked_by_a_lookup(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = threading.Event()
    resolve_to(monkeypatch, ADDRESSES, ready)

    async def scenario() -> None:
        async with AsyncPgStatusClient(f"http://{NAME}:1", deadline=0.3, watch=False) as client:
            task = asyncio.create_task(client.master())
            began = time.monotonic()
            await asyncio.sleep(0.01)
            with pytest.raises(DeadlineError):
                await task
            assert time.monotonic() - began < LIMIT
            ready.set()

    asyncio.run(scenario())


def test_a_handshake_that_the_deadline_ends_leaves_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lookup takes a part of the time, as a busy network does."""
    ready = threading.Event()
    resolve_to(monkeypatch, ADDRESSES[:1], ready)

    async def scenario(listener: socket.socket) -> bytes:
        url = f"https://{NAME}:{listener.getsockname()[1]}"
        async with AsyncPgStatusClient(url, deadline=1.0, watch=False) as client:
            asyncio.get_running_loop().call_later(0.5, ready.set)
            with pytest.raises(DeadlineError):
                await client.master()
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(15)
                received = b""
                while more := await asyncio.to_thread(connection.recv, 65536):
                    received += more
                return received

    with socket.create_server((ADDRESSES[0], 0)) as listener:
        listener.settimeout(15)
        assert asyncio.run(scenario(listener)).startswith(b"\x16\x03"), "a handshake"
