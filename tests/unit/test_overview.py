"""``/overview``: the data of the status page, in every state of the cluster."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from pgstatus.api import create_app
from pgstatus.core.changes import events
from pgstatus.core.election import SplitBrain
from pgstatus.core.render import host_entry
from pgstatus.core.snapshot import Snapshot
from pgstatus.core.state import Rules
from pgstatus.telemetry.history import SAMPLES, STEP, History
from tests.support.serving import daemon, service
from tests.support.world import NOON, World, master, refused, replica


def ask(
    snapshot: Snapshot, now: float = 0.0, history: History | None = None, method: str = "GET"
) -> httpx.Response:
    app = create_app(
        daemon(replace(service(lambda: snapshot), now=lambda: now, history=history or History()))
    )
    transport = httpx.WSGITransport(app)
    with httpx.Client(transport=transport, base_url="http://pg-status") as client:
        return client.request(method, "/overview")


def healthy() -> World:
    return World().see_all(a=master(0), b=replica(0), c=replica(0))


def split(policy: SplitBrain) -> Snapshot:
    world = World(rules=Rules(split_brain=policy))
    world.see_all(a=master(0), b=replica(0), c=replica(0))
    return world.see("b", master(5, 1100, timeline=2)).snapshot


SNAPSHOTS = {
    "not ready": (World().snapshot, 0.0),
    "first checks": (World().see("b", replica(0)).snapshot, 0.0),
    "healthy": (healthy().snapshot, 1.0),
    "stale": (healthy().snapshot, 1e9),
    "all dead": (World(rules=Rules(max_fails=1)).see_all(
        a=refused(0), b=refused(0), c=refused(0)).snapshot, 1.0),
    "split brain": (split(SplitBrain.NEWEST_TIMELINE), 6.0),
    "split brain without master": (split(SplitBrain.NONE), 6.0),
}  # fmt: skip


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_the_response_has_the_same_fields_in_every_state(name: str) -> None:
    snapshot, now = SNAPSHOTS[name]
    answer = ask(snapshot, now)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    shown = answer.json()
    assert set(shown) == {
        "version", "cluster", "instance", "service", "documentation", "now", "ready", "stale",
        "error", "master", "no_master", "no_master_since", "upstreams", "last_master", "masters",
        "former_master", "limits", "chart", "hosts", "history",
    }  # fmt: skip
    assert shown["hosts"] == [
        {**host_entry(status), "lags_ms": [None] * SAMPLES} for status in snapshot.hosts
    ]
    assert shown["chart"] == {"step_s": STEP, "samples": SAMPLES}
    assert shown["limits"] == {"lag_ms": 1000, "lag_bytes": 1_000_000}


@pytest.mark.parametrize(
    ("name", "ready", "stale"),
    [("not ready", False, False), ("healthy", True, False), ("stale", True, True)],
)
def test_the_reasons_for_which_other_endpoints_return_503(
    name: str, ready: bool, stale: bool
) -> None:
    shown = ask(*SNAPSHOTS[name]).json()
    assert (shown["ready"], shown["stale"]) == (ready, stale)


def test_the_master() -> None:
    shown = ask(*SNAPSHOTS["healthy"]).json()
    assert shown["master"] == {"host": "a", "port": 5432, "since": None}
    assert shown["masters"] == ["a:5432"]
    assert shown["no_master"] is None


def test_the_reason_for_no_master() -> None:
    shown = ask(*SNAPSHOTS["all dead"]).json()
    assert shown["master"] is None
    assert shown["masters"] == []
    assert shown["no_master"] == "no live host is a master"


def test_since_when_there_is_no_master_and_which_was_the_last() -> None:
    world, history = World(rules=Rules(max_fails=1)), History()
    results = (("a", master(0)), ("b", replica(0)), ("c", replica(0)), ("a", refused(5)))
    for minute, (name, seen) in enumerate(results):
        before = world.snapshot
        after = world.see(name, seen).snapshot  # type: ignore[arg-type]
        history.changed(before, list(events(before, after)), NOON + timedelta(minutes=minute))
    shown = ask(world.snapshot, 6.0, history).json()
    assert (shown["no_master_since"], shown["last_master"], shown["former_master"]) == (
        "2026-01-01T12:03:00.000Z", "a:5432", None,
    )  # fmt: skip


def test_a_split_brain_contains_both_hosts() -> None:
    for name in ("split brain", "split brain without master"):
        assert ask(*SNAPSHOTS[name]).json()["masters"] == ["a:5432", "b:5432"]
    assert ask(*SNAPSHOTS["split brain without master"]).json()["master"] is None


def test_the_history_and_the_time_of_the_failover() -> None:
    world, history = healthy(), History()
    before = world.snapshot
    after = world.see("b", master(5, 1100, timeline=2)).snapshot
    at = NOON + timedelta(seconds=5)
    history.changed(before, list(events(before, after)), at)
    shown = ask(after, 6.0, history).json()
    assert shown["master"] == {"host": "b", "port": 5432, "since": "2026-01-01T12:00:05.000Z"}
    (line,) = shown["history"]
    assert {
        "at": "2026-01-01T12:00:05.000Z",
        "change": "failover",
        "host": "b:5432",
        "level": "error",
    }.items() <= line.items()
    first, second = line["entries"][:2]
    assert first == {
        "at": "2026-01-01T12:00:05.000Z",
        "change": "master",
        "host": "b:5432",
        "level": "info",
        "text": "b:5432 is now the master (timeline 2, previously a:5432)",
    }
    assert {"level": "error", "host": None}.items() <= second.items()
    assert datetime.fromisoformat(shown["now"]) > at


@pytest.mark.parametrize(
    ("result", "expected"),
    [(refused(5), "a:5432"), (master(7), "a:5432"), (replica(7, 1100, timeline=2), None)],
)
def test_the_former_master_until_it_is_a_replica(result: Any, expected: str | None) -> None:
    world, history = healthy(), History()
    for name, seen in (
        ("a", refused(5)), ("b", master(6, 1100, timeline=2)), ("c", replica(6, 1100, timeline=2)),
        ("a", result),
    ):  # fmt: skip
        before = world.snapshot
        after = world.see(name, seen).snapshot
        history.changed(before, list(events(before, after)), NOON)
    history.changed(world.snapshot, [], NOON)
    assert ask(world.snapshot, 8.0, history).json()["former_master"] == expected


def test_the_last_lag_is_the_current_one() -> None:
    history, snapshot = History(), healthy().snapshot
    history.sample(snapshot, 100.0 * STEP)
    lags = {
        host["host"]: host["lags_ms"]
        for host in ask(snapshot, 101.0 * STEP, history).json()["hosts"]
    }
    assert {name: series[-1] for name, series in lags.items()} == {
        status.host.name: status.lag_ms for status in snapshot.hosts
    }
    assert all(set(series[:-1]) == {None} for series in lags.values())


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("OPTIONS", 204), ("POST", 405)])
def test_methods(method: str, status: int) -> None:
    answer = ask(healthy().snapshot, method=method)
    assert (answer.status_code, answer.text) == (status, "")
