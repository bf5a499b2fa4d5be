"""The code of docs/sqlalchemy-sync.md, as written."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pgstatus.demo.cluster import Cluster
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/sqlalchemy-sync.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SERVICE = "".join(block for block in BLOCKS if not block.startswith("# test_service.py"))
[TEST] = [block for block in BLOCKS if block.startswith("# test_service.py")]


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


def test_the_service(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "service.py").write_text(SERVICE)
    run(tmp_path, environment, "flask", "--app", "service", "create-tables")

    monkeypatch.setenv("PG_STATUS_URL", environment["PG_STATUS_URL"])
    module: Any = ModuleType("service")
    exec(compile(SERVICE, "docs/sqlalchemy-sync.md", "exec"), module.__dict__)
    user = module.app.test_client()
    numbers = [user.post("/tasks", data={"title": f"{n}"}).json["id"] for n in range(3)]
    assert [user.get(f"/tasks/{number}").json["title"] for number in numbers] == ["0", "1", "2"]
    assert user.get("/titles", query_string={"id": numbers}).json == ["0", "1", "2"]
    assert user.get("/tasks/0").status_code == 404
    assert user.post("/archive").status_code == 202
    wait_until("the thread has written", lambda: "archived" in user.get("/export").text)
    module.threads.shutdown()
    module.cluster.close()


def test_the_tests_of_the_service(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "test_service.py").write_text(TEST)
    run(tmp_path, environment, "flask", "--app", "service", "create-tables")
    run(tmp_path, environment, "pytest", "-q", "-p", "no:cacheprovider", "test_service.py")
