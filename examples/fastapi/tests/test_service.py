"""Tests in which the service has its own sessions and commits them."""

import httpx
import pytest
from sqlalchemy import select

from examples.fastapi.database import Note, master
from pgstatus.sqlalchemy import new_non_ctx_session

pytestmark = pytest.mark.anyio


async def committed() -> list[str]:
    async with new_non_ctx_session(master) as session:
        return list(await session.scalars(select(Note.body).order_by(Note.id)))


async def test_a_client_reads_what_it_has_written(client: httpx.AsyncClient) -> None:
    for number in range(10):
        written = (await client.post("/notes", params={"body": str(number)})).json()
        [cookie] = client.cookies.jar
        assert cookie.name.startswith("pg-bookmark-")
        read = await client.get(f"/notes/{written['id']}")
        assert read.json()["body"] == str(number)


async def test_early_commit(client: httpx.AsyncClient) -> None:
    await client.post("/early-commit", params={"body": "early"})
    assert await committed() == ["early"]


async def test_atomic_part(client: httpx.AsyncClient) -> None:
    answer = await client.post("/atomic", params={"body": "kept"})
    assert answer.status_code == 409
    assert await committed() == ["kept"]


async def test_concurrent_queries(client: httpx.AsyncClient) -> None:
    for body in ("a", "b", "b"):
        await client.post("/notes", params={"body": body})
    answer = await client.get("/counts", params={"bodies": ["a", "b", "c"]})
    assert answer.json() == {"a": 1, "b": 2, "c": 0}
