"""The code of docs/psycopg.md and docs/asyncpg.md is executed as written, with another URL."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psycopg
import pytest
from fastapi import FastAPI

from pgstatus.client import NoHostError
from pgstatus.demo.cluster import PASSWORD, Cluster
from tests.support.daemon import Daemon

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def database(cluster: Cluster) -> Iterator[None]:
    """What the examples use: the role and the database ``app``, with a table."""
    cluster.primary.sql(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
    cluster.primary.sql("CREATE DATABASE app OWNER app")
    conninfo = psycopg.conninfo.make_conninfo(
        cluster.primary.conninfo, user="app", dbname="app", password=PASSWORD
    )
    with psycopg.connect(conninfo) as connection:
        connection.execute("CREATE TABLE note (body text)")
    yield
    cluster.primary.sql("DROP DATABASE app WITH (FORCE)")
    cluster.primary.sql("DROP ROLE app")


def blocks(page: str, url: str) -> list[str]:
    text = (DOCS / page).read_text().replace("http://127.0.0.1:8000", url)
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


async def use(app: FastAPI, lifespan: Any) -> None:
    """One user, who reads each note that was written."""
    transport = httpx.ASGITransport(app)
    async with lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://app") as user:
        for number in range(5):
            assert (await user.post("/notes", params={"body": f"note {number}"})).is_success
            assert f"note {number}" in (await user.get("/notes")).json()


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("page", ["psycopg.md", "asyncpg.md"])
def test_examples(
    page: str,
    daemon: Daemon,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    *examples, web, retry = blocks(page, daemon.url)
    for example in examples:
        exec(compile(example, page, "exec"), {})
        assert "written" in capsys.readouterr().out
    monkeypatch.setenv("SESSION_SECRET", "secret")
    service: dict[str, Any] = {}
    exec(compile(web, page, "exec", dont_inherit=True), service)
    asyncio.run(use(service["app"], service["lifespan"]))
    names: dict[str, Any] = {"asyncio": asyncio}
    exec(compile(retry, page, "exec"), names)
    errors = iter(
        [
            NoHostError("no master"),
            psycopg.OperationalError("lost")
            if page == "psycopg.md"
            else asyncpg.ConnectionDoesNotExistError("lost"),
        ]
    )

    async def transaction() -> None:
        for error in errors:
            raise error

    asyncio.run(names["retried"](transaction))
