"""Closing a client does not end the requests in progress."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pgstatus.client import AsyncPgStatusClient, PgStatusClient
from tests.client.support import Server
from tests.support.waiting import wait_until


def test_close_does_not_cancel_callers_for_asyncio(server: Server) -> None:
    server.may_answer.clear()

    async def scenario() -> None:
        client = AsyncPgStatusClient(server.url, watch=False)
        callers = [asyncio.create_task(client.replica()) for _ in range(3)]
        await asyncio.to_thread(wait_until, "the request has arrived", lambda: server.requests)
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        server.may_answer.set()
        chosen = await asyncio.gather(*callers)
        assert [each.host for each in chosen] == ["pg2"] * 3
        await closing

    asyncio.run(scenario())
    assert len(server.requests) == 1


def test_close_does_not_disturb_callers_in_threads(server: Server) -> None:
    server.may_answer.clear()
    client = PgStatusClient(server.url, watch=False)
    with ThreadPoolExecutor(3) as threads:
        callers = [threads.submit(client.replica) for _ in range(3)]
        wait_until("the request has arrived", lambda: server.requests)
        closing = threading.Thread(target=client.close)
        closing.start()
        server.may_answer.set()
        assert [each.result().host for each in callers] == ["pg2"] * 3
        closing.join()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_close_waits_for_the_deadline_at_most(server: Server, kind: str) -> None:
    server.may_answer.clear()
    if kind == "sync":
        client = PgStatusClient(server.url, deadline=0.3, watch=False)
        caller = threading.Thread(target=_ignore_errors, args=(client,))
        caller.start()
        wait_until("the request has arrived", lambda: server.requests)
        client.close()
        caller.join(1)
        assert not caller.is_alive()
        return

    async def scenario() -> None:
        client = AsyncPgStatusClient(server.url, deadline=0.3, watch=False)
        caller = asyncio.create_task(client.replica())
        await asyncio.to_thread(wait_until, "the request has arrived", lambda: server.requests)
        await asyncio.wait_for(client.close(), 2)
        await asyncio.gather(caller, return_exceptions=True)

    asyncio.run(scenario())


def _ignore_errors(client: PgStatusClient) -> None:
    with contextlib.suppress(TimeoutError):
        client.replica()


def test_a_closed_client_can_be_used_again(server: Server) -> None:
    options: dict[str, Any] = {"max_age": 0, "stale_if_error": 0, "deadline": 10, "watch": False}
    with PgStatusClient(server.url, **options) as client:
        client.replica()
    assert client.replica().host == "pg2"
    assert server.connections == 2
    client.close()
