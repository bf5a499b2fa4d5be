"""The code of docs/sqlalchemy-sync.md, as written. Each block is a file of its own."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pgstatus.demo.cluster import Cluster
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/sqlalchemy-sync.md").read_text()
FILES = {
    name: code for code, name in re.findall(r"```python\n(# (\S+\.py)\n.*?)```", PAGE, re.DOTALL)
}
ROUTES = ("titles", "export", "unavailable")


@pytest.fixture
def environment(cluster: Cluster, daemon: Daemon) -> dict[str, str]:
    cluster.primary.sql("DROP TABLE IF EXISTS task")
    return {**os.environ, "PG_STATUS_URL": daemon.url}


def run(directory: Path, environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    assert len(FILES) == PAGE.count("```python")
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    return tmp_path


def test_the_service(
    directory: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(directory, environment, "flask", "--app", "service", "create-tables")

    monkeypatch.setenv("PG_STATUS_URL", environment["PG_STATUS_URL"])
    monkeypatch.syspath_prepend(directory)
    module: Any = importlib.import_module("service")
    titles, *_ = (importlib.import_module(name) for name in ROUTES)
    for name in ("service", *ROUTES):
        del sys.modules[name]
    user = module.app.test_client()
    numbers = [user.post("/tasks", data={"title": f"{n}"}).json["id"] for n in range(3)]
    assert [user.get(f"/tasks/{number}").json["title"] for number in numbers] == ["0", "1", "2"]
    assert user.get("/titles", query_string={"id": numbers}).json == ["0", "1", "2"]
    assert user.get("/tasks/0").status_code == 404
    assert user.post("/archive").status_code == 202
    wait_until("the thread has written", lambda: "archived" in user.get("/export").text)
    titles.threads.shutdown()
    module.cluster.close()


def test_the_tests_of_the_service(directory: Path, environment: dict[str, str]) -> None:
    run(directory, environment, "flask", "--app", "service", "create-tables")
    run(directory, environment, "pytest", "-q", "-p", "no:cacheprovider", "test_service.py")
