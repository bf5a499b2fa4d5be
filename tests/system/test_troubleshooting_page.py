"""The commands of docs/troubleshooting.md run as written, on a healthy cluster."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster
from tests.support.daemon import Daemon

PAGE = (Path(__file__).parents[2] / "docs/troubleshooting.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
    if "systemctl" not in line
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command(daemon: Daemon, tmp_path: Path, command: str) -> None:
    if "| jq" in command and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    program = tmp_path / "pg-status"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pgstatus "$@"\n')
    program.chmod(0o755)
    address = daemon.url.removeprefix("http://")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", re.sub(r"(?:127\.0\.0\.1|app\d):8000", address, command)],
        env={**daemon.environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_queries(cluster: Cluster) -> None:
    (block,) = re.findall(r"^```sql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    queries = [*block.splitlines(), *re.findall(r"`(SELECT [^`]*?)`", PAGE.replace("\n", " "))]
    assert len(queries) > 4
    for query in queries:
        if "pg_promote" not in query:
            cluster.replicas[0].sql(query.partition(";")[0])
