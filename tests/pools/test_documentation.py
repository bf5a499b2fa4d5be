"""The code of docs/psycopg.md and docs/asyncpg.md is executed as written, with another URL.

Each block is a module of its own.
"""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.sqlalchemy.sync.gunicorn import Gunicorn
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["psycopg.md", "asyncpg.md"]

# The connection is lost in the middle of the first insertion. A sequence is not rolled back.
LOSE_THE_FIRST = """
    CREATE SEQUENCE attempts;
    CREATE FUNCTION lose_the_first() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('attempts') = 1 THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
            PERFORM pg_sleep(60);
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER lose_the_first BEFORE INSERT ON note
        FOR EACH ROW EXECUTE FUNCTION lose_the_first();
"""


@pytest.fixture(autouse=True)
def schema(cluster: Cluster) -> Iterator[None]:
    """The other tests have another table ``note``."""
    cluster.primary.sql("CREATE SCHEMA page")
    cluster.primary.sql("ALTER ROLE postgres SET search_path = page")
    yield
    cluster.primary.sql("ALTER ROLE postgres RESET search_path")
    cluster.primary.sql("DROP SCHEMA page CASCADE")


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def blocks(page: str, daemon: Daemon) -> list[str]:
    text = (DOCS / page).read_text().replace("http://127.0.0.1:8000", daemon.url)
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run(code: str, page: str) -> dict[str, Any]:
    module: dict[str, Any] = {"__name__": "module"}
    exec(compile(code, page, "exec", dont_inherit=True), module)
    return module


def test_examples(page: str, daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    table, *examples = blocks(page, daemon)
    run(table, page)
    written = [example for example in examples if '"written"' in example]
    assert len(written) == {"psycopg.md": 2, "asyncpg.md": 1}[page]
    for example in written:
        run(example, page)
        assert "written" in capsys.readouterr().out


async def use(app: FastAPI, lifespan: Any) -> None:
    """One user, who reads each note that was written."""
    transport = httpx.ASGITransport(app)
    async with lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://app") as user:
        for number in range(5):
            assert (await user.post("/notes", params={"body": f"note {number}"})).is_success
            assert f"note {number}" in (await user.get("/notes")).json()


def test_fastapi(page: str, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_SECRET", "secret")
    table, *examples = blocks(page, daemon)
    run(table, page)
    [service] = [run(example, page) for example in examples if "FastAPI(" in example]
    asyncio.run(use(service["app"], service["lifespan"]))


def test_retrying(
    page: str, daemon: Daemon, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second attempt succeeds, and its row is read."""
    table, *examples = blocks(page, daemon)
    run(table, page)
    cluster.primary.sql(LOSE_THE_FIRST)
    [retrying] = [example for example in examples if "def retried(" in example]
    run(retrying, page)
    assert capsys.readouterr().out.endswith("['retried']\n")
    assert cluster.primary.sql("SELECT last_value FROM attempts") == [(2,)]


def test_gunicorn(
    daemon: Daemon, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker opens the pools after the fork, also with ``--preload``."""
    table, *examples = blocks("psycopg.md", daemon)
    run(table, "psycopg.md")
    for example in examples:
        if name := re.match(r"# (\S+\.py)\n", example):
            (tmp_path / name[1]).write_text(example)
    monkeypatch.chdir(tmp_path)
    address = network.address(1)
    with Gunicorn(
        "service:app", {}, tmp_path / "log", address=address, workers=2, threads=4
    ) as server:
        for number in range(8):
            httpx.post(
                f"{server.url}/notes", params={"body": str(number)}, timeout=20
            ).raise_for_status()
        expected = {str(number) for number in range(8)}
        wait_until(
            "replicas have the notes",
            lambda: set(httpx.get(f"{server.url}/notes", timeout=20).json()) == expected,
        )
    assert "Traceback" not in server.log()
