"""``/overview`` of a real daemon: its names, and the condition of pg-status itself."""

import os
import signal
import socket
from datetime import UTC, datetime
from pathlib import Path

from pgstatus.demo.cluster import Cluster
from tests.conftest import ClusterFactory, DaemonFactory, Daemons
from tests.support.fleet import frozen
from tests.support.running import answers
from tests.support.waiting import wait_until


def test_the_names_and_the_condition(
    make_daemon: DaemonFactory, cluster: Cluster, tmp_path: Path
) -> None:
    """A reload applies names, and is counted; a refused one is shown."""
    file = tmp_path / "pg-status.env"
    file.write_text("pg_status__cluster_name=orders\n")
    daemon = make_daemon(cluster, env_file=file, docs_url="https://docs.example.org/")
    overview = daemon.json("/overview")
    assert (overview["cluster"], overview["instance"]) == ("orders", socket.gethostname())
    assert overview["documentation"] == "https://docs.example.org/"
    service = overview["service"]
    age = datetime.now(UTC) - datetime.fromisoformat(service.pop("started_at"))
    assert 0 <= age.total_seconds() < 60
    assert service == {
        "reloads": 0,
        "last_reload": "none",
        "monitor_restarts": 0,
        "dropped_log_lines": 0,
        "hook_runs": {"ok": 0, "failed": 0, "timeout": 0},
        "hook_pending": False,
    }
    for text, result in (("pg_status__cluster_name=billing\n", "applied"), ("x", "refused")):
        file.write_text(text)
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(
            f"it is {result}",
            lambda wanted=result: daemon.json("/overview")["service"]["last_reload"] == wanted,  # type: ignore[misc]
        )
    overview = daemon.json("/overview")
    assert (overview["cluster"], overview["service"]["reloads"]) == ("billing", 2)


def test_the_former_master_until_it_is_a_replica(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster(replicas=1)
    daemon = make_daemon(cluster)
    assert daemon.json("/overview")["former_master"] is None
    lost = cluster.fail_over()
    name = f"{lost.address}:{lost.port}"
    wait_until("it is marked", lambda: daemon.json("/overview")["former_master"] == name)
    (failover,) = (
        line for line in daemon.json("/overview")["history"] if line["change"] == "failover"
    )
    assert failover["text"].startswith(f"failover from {name} to {cluster.primary.address}:")
    cluster.rebuild(lost)
    wait_until("it is a replica", lambda: daemon.json("/overview")["former_master"] is None)


def test_a_suspension_of_pg_status_is_no_change_of_the_cluster(
    make_daemon: DaemonFactory, cluster: Cluster
) -> None:
    """Neither in the history nor in the log, nor a reload after it."""
    daemon = make_daemon(cluster, sleep_ms=200, query_timeout_ms=1000, max_staleness_ms=2000)
    before = daemon.json("/overview")
    with frozen(daemon):
        checked = datetime.now(UTC)
        wait_until(
            "the results are too old", lambda: (datetime.now(UTC) - checked).total_seconds() > 2.5
        )

    def lines() -> list[str]:
        return [line["change"] for line in daemon.json("/overview")["history"]]

    wait_until("the end of the interruption", lambda: "ready again: " in daemon.log)
    assert "ready" in lines()
    daemon.process.send_signal(signal.SIGHUP)
    wait_until("it is reloaded", lambda: "reloaded: the same hosts" in daemon.log)
    overview = daemon.json("/overview")
    assert not {"failover", "interruption"} & set(lines())
    assert overview["master"] == before["master"]
    assert daemon.log.count("is now the master") == 1
    assert "is unknown" not in daemon.log
    assert "the master again" not in daemon.log


def test_an_interruption_of_the_master_is_no_failover(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster(replicas=0)
    daemon = make_daemon(cluster, sleep_ms=200, max_fails=2)
    cluster.primary.stop()
    wait_until("no master", lambda: daemon.get("/master").status_code == 404)
    cluster.primary.start()
    wait_until("the master", lambda: daemon.get("/master").status_code == 200)
    line = daemon.json("/overview")["history"][0]
    name = f"{cluster.primary.address}:{cluster.primary.port}"
    assert line["change"] == "interruption"
    assert line["text"].startswith(f"{name} is the master again after ")
    assert f"{name} is the master again (timeline 1)" in daemon.log


def test_a_relay_shows_which_upstreams_deliver_evidence(
    cluster: Cluster, daemons: Daemons, make_daemon: DaemonFactory
) -> None:
    watcher = make_daemon(cluster, sleep_ms=500)
    away = f"http://{watcher.address}:1"
    with daemons.prepare(None, upstreams=away).launched() as blind:
        wait_until("it responds", lambda: answers(blind.client, "/live"))

        def reason() -> str:
            return str(blind.json("/master")["error_text"])

        wait_until("the cause", lambda: f"{away}: Connection refused" in reason())
        assert reason().startswith("not ready: ")
        assert "pg_monitor" not in reason()
        for path in ("/ready", "/health", "/explain/replica"):
            assert blind.json(path)["error_text"] == reason()
        assert f"{away}: Connection refused" in blind.json("/overview")["no_master"]

    relay = daemons.start(None, sleep_ms=500, upstreams=f"{watcher.url},{away}")
    expected = [
        {"name": watcher.url, "error": None},
        {"name": away, "error": "Connection refused"},
    ]
    wait_until("the condition", lambda: relay.json("/overview")["upstreams"] == expected)
    assert watcher.json("/overview")["upstreams"] == []
