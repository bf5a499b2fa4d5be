"""Fast tests: the service uses the test's transaction, which is rolled back at the end."""

from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from examples.fastapi.database import Note, master, replica
from pgstatus.sqlalchemy.test_utils import rolled_back_test_context

pytestmark = pytest.mark.anyio


@pytest.fixture
async def session(client: httpx.AsyncClient) -> AsyncIterator[AsyncSession]:
    """The test's own session; reads of the service from replicas use its transaction too."""
    async with rolled_back_test_context(master, replica) as session:
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


async def test_concurrent_queries(client: httpx.AsyncClient, session: AsyncSession) -> None:
    session.add(Note(body="a"))
    await session.commit()  # of a savepoint
    answer = await client.get("/counts", params={"bodies": ["a", "b"]})
    assert answer.json() == {"a": 1, "b": 0}


async def test_other_tests_leave_no_rows(client: httpx.AsyncClient, session: AsyncSession) -> None:
    assert await session.scalar(select(func.count()).select_from(Note)) == 0
