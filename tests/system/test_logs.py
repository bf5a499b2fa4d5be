"""The log of a real daemon: fields, tracebacks, level debug."""

import json
from pathlib import Path
from typing import Any

from pgstatus.demo.cluster import Cluster
from tests.conftest import DaemonFactory, Daemons
from tests.support.defects import with_defect
from tests.support.waiting import wait_until


def lines(log: str) -> list[dict[str, Any]]:
    """Every line is a JSON object."""
    return [json.loads(line) for line in log.splitlines()]


def test_json_lines_contain_fields(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    daemon = make_daemon(cluster, log_format="json")
    primary = f"{cluster.primary.address}:{cluster.primary.port}"

    def reported() -> list[dict[str, Any]]:
        return [line for line in lines(daemon.log) if line.get("event") == "master"]

    (line,) = wait_until("the master is logged", reported)
    assert line["host"] == primary
    assert line["timeline"] == 1
    assert primary in line["message"]


def test_json_lines_contain_the_traceback_of_a_defect(
    cluster: Cluster, daemons: Daemons, tmp_path: Path
) -> None:
    trigger = tmp_path / "trigger"
    daemon = daemons.prepare(cluster, log_format="json")
    daemon.command = with_defect('raise ZeroDivisionError("a defect")', trigger)
    with daemon:
        trigger.touch()
        wait_until("a failure is logged", lambda: "a defect" in daemon.log)
        trigger.unlink()
        found = [line for line in lines(daemon.log) if "exception" in line]
    assert found
    assert "Traceback" in found[0]["exception"]
    assert "ZeroDivisionError: a defect" in found[0]["exception"]


def test_level_debug_prints_no_settings(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    daemon = make_daemon(cluster, log_level="DEBUG", sleep_ms=60_000)
    daemon.text("/master")
    assert "DEBUG" in daemon.log
    assert "gunicorn" not in daemon.log
    assert "password" not in daemon.log
    assert len(daemon.log.splitlines()) < 60
