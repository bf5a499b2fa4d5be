"""docs/command-line.md: its commands run as written, and its tables are complete."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pgstatus.cli.parser import parser
from pgstatus.cli.state import State
from pgstatus.demo.cluster import Cluster
from tests.conftest import DaemonFactory
from tests.support.world import NOON

PAGE = (Path(__file__).parents[2] / "docs/command-line.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if not line.startswith("export ")
]


def test_the_commands_run_as_written(
    make_daemon: DaemonFactory, cluster: Cluster, tmp_path: Path
) -> None:
    daemon = make_daemon(cluster, clusters="orders")
    program = tmp_path / "pg-status"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pgstatus "$@"\n')
    program.chmod(0o755)
    assert len(COMMANDS) > 10
    for command in COMMANDS:
        if "| jq" in command and shutil.which("jq") is None:
            continue
        # Until Ctrl-C.
        limited = f"timeout --signal=INT 5 {command}" if "--watch" in command else command
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", limited],
            env={
                **daemon.environment,
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "PG_STATUS_URL": daemon.url,
            },
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode in {0, 124}, done.stderr) == (True, ""), command
        assert done.stdout, command


@pytest.mark.parametrize("word", ["former master", "second master", "possibly dead", "not in sync",
                                  "refuses logins", "not the master", "down"])  # fmt: skip
def test_the_words_of_the_table_are_explained(word: str) -> None:
    source = (Path(__file__).parents[2] / "src/pgstatus/cli/table.py").read_text()
    assert f'"{word}"' in source
    assert re.search(rf"^\| [^|]*\b{word}\b[^|]* \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize(
    "word",
    ["no master", "split brain", "stale", "not ready", "not in sync", "master possibly dead",
     "master down", "second master", "hosts dead"],
)  # fmt: skip
def test_the_states_of_clusters_are_explained(word: str) -> None:
    source = (Path(__file__).parents[2] / "src/pgstatus/api/overview.py").read_text()
    assert word in source.replace("{'s' if dead > 1 else ''}", "s")
    table = PAGE.partition("## Several clusters")[2].partition("## hosts")[0]
    assert re.search(rf"^\| [^|]*\b{word}\b[^|]* \|", table, re.MULTILINE)


def test_the_fields_of_json_are_listed() -> None:
    state = State(
        now=NOON, version="", cluster=None, instance=None, ready=True, stale=False, master="a:5432",
        since=NOON, no_master=None, no_master_since=None, last_master="a:5432", masters=[],
        former_master=None, upstreams=[], hosts=[],
    )  # fmt: skip
    table = PAGE.partition("### JSON")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert [word for cell in cells for word in re.findall(r"`(\w+)`", cell)] == list(state.json)
    assert state.json["master_since"] == NOON.isoformat(timespec="milliseconds")


def test_every_command_is_listed() -> None:
    run = dict.fromkeys(
        ("", "demo", "failover", "check", "clusters", "hosts", "explain", "health", "reload"),
        lambda _: 0,
    )
    (usage,) = re.findall(r"^    (\w+)  ", parser(run).format_help(), re.MULTILINE)[:1]
    listed = set(re.findall(r"`(\w+)`", PAGE.partition("## The instance")[0]))
    assert usage in listed
    assert set(run) - {""} <= listed
