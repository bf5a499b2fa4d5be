"""Quick tests: the service works in the test's transaction, which is rolled back at the end."""

from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from examples.fastapi.database import Note, master, replica
from pgstatus.sqlalchemy.test_utils import (
    put_savepoint_session_in_ctx,
    rollback_session,
    set_test_context,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def session(client: httpx.AsyncClient) -> AsyncIterator[AsyncSession]:
    """The test's own session. What the service reads from replicas, it reads from here too."""
    async with (
        rollback_session(master) as session,
        set_test_context(),
        put_savepoint_session_in_ctx(master, session),
        put_savepoint_session_in_ctx(replica, session),
    ):
        yield session


async def test_write(client: httpx.AsyncClient, session: AsyncSession) -> None:
    answer = await client.post("/notes", params={"body": "hello"})
    assert answer.status_code == 200
    note = await session.get(Note, answer.json()["id"])
    assert note is not None
    assert note.body == "hello"


async def test_read(client: httpx.AsyncClient, session: AsyncSession) -> None:
    session.add(note := Note(body="prepared"))
    await session.flush()
    assert (await client.get(f"/notes/{note.id}")).json()["body"] == "prepared"
    assert (await client.get("/notes/0")).status_code == 404


async def test_nothing_is_left_of_the_others(
    client: httpx.AsyncClient, session: AsyncSession
) -> None:
    assert await session.scalar(select(func.count()).select_from(Note)) == 0
