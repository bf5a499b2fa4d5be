"""What ``pg-status hosts`` shows in each state of a cluster, on a terminal of 80 columns."""

import io
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from pgstatus.api.overview import overview
from pgstatus.cli.clusters import ClustersScreen
from pgstatus.cli.layout import Source
from pgstatus.cli.state import Clusters, State, parse
from pgstatus.cli.table import Screen
from pgstatus.core.election import SplitBrain
from pgstatus.core.snapshot import Snapshot
from pgstatus.core.state import Rules
from tests.support.serving import daemon, service
from tests.support.world import NOON, World, master, refused, replica

URL = "http://127.0.0.1:8000"
LONG = "standby-1.a-rather-long-name.database.svc.cluster.local"


def state_of(snapshot: Snapshot, now: float = 1.0) -> State:
    only = replace(service(lambda: snapshot), now=lambda: now)
    return parse(overview(daemon(only), only, datetime.now(UTC)))


def lines(state: State, *, width: int = 80, height: int | None = None, **source: Any) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, highlight=False).print(
        Screen(state, Source(URL, **source), height)
    )
    return [line.rstrip() for line in out.getvalue().splitlines()]


def with_hosts(state: State, **changes: object) -> State:
    return replace(state, hosts=[{**host, **changes} for host in state.hosts])


def healthy() -> State:
    return state_of(World().see_all(a=master(0), b=replica(0), c=replica(0)).snapshot)


def split(policy: SplitBrain = SplitBrain.NEWEST_TIMELINE) -> State:
    world = World(rules=Rules(split_brain=policy))
    world.see_all(a=master(0), b=replica(0), c=replica(0))
    return state_of(world.see("b", master(5, 1100, timeline=2)).snapshot, 6.0)


def test_a_healthy_cluster_needs_no_details() -> None:
    shown = lines(healthy())
    assert [line.split()[:2] for line in shown[5:]] == [
        ["a:5432", "master"],
        ["b:5432", "replica"],
        ["c:5432", "replica"],
    ]


def test_a_split_brain() -> None:
    """The other primary is marked and explained below the table, within the width."""
    shown = lines(split())
    assert shown[1] == "split brain"
    assert "master b:5432" in "\n".join(shown)
    row = ["a:5432", "second", "master", "not", "the", "master", "-", "-", "1", "0/3E8"]
    assert row in [line.split() for line in shown]
    assert any(line.startswith("split brain  a:5432 and b:5432 are primaries") for line in shown)
    assert max(map(len, shown)) <= 80


def test_without_a_master_the_reason_is_shown() -> None:
    text = "\n".join(lines(split(SplitBrain.NONE)))
    assert "\nno master" in text
    assert "second master" not in text


def test_the_former_master() -> None:
    snapshot = World().see_all(a=refused(0), b=master(1, 1100, timeline=2), c=replica(1)).snapshot
    shown = lines(replace(state_of(snapshot), former_master="a:5432"))
    assert shown[5].startswith("b:5432  master")
    assert shown[6].startswith("a:5432  former master  dead") or "former master" in shown[6]


def test_the_upstreams_of_a_relay() -> None:
    lost = {"name": "http://w3:8000", "error": "Connection refused"}
    upstreams: list[dict[str, Any]] = [{"name": "http://w1:8000", "error": None}, lost]
    text = "upstreams 1 of 2: http://w3:8000 Connection refused"
    assert text in lines(replace(healthy(), upstreams=upstreams))
    assert "upstreams 1 of 1 deliver evidence" in lines(replace(healthy(), upstreams=upstreams[:1]))
    assert not any("upstreams" in line for line in lines(healthy()))


def test_the_errors_of_the_upstreams_of_a_relay_that_is_not_ready_are_shown_once() -> None:
    lost = ("http://w1:8000", "Connection refused")
    waiting = World().snapshot
    reason = f"{waiting.no_master}; {lost[0]}: {lost[1]}"
    shown = lines(state_of(replace(waiting, no_master=reason, sources=(lost,))))
    assert shown[1:3] == [
        "not ready: not every host has been checked yet",
        "upstreams 0 of 1: http://w1:8000 Connection refused",
    ]


def test_control_characters_of_a_response_are_not_written_to_the_terminal() -> None:
    """The server at the URL may be another one than expected."""
    text = "\x1b[2J\x07"
    upstreams = [{"name": text, "error": text}]
    texts = {"cluster": text, "instance": text, "version": text, "no_master": text}
    found = {**_response(healthy()), **texts, "upstreams": upstreams, "last_master": text}
    found["hosts"] = [
        {**host, **dict.fromkeys(("host", "role", "lsn", "timeline", "error", "reason"), text)}
        for host in found["hosts"]
    ]
    lost = {"master": None, "masters": [text, text]}
    for more in ({}, lost, {"ready": False}, {**lost, "stale": True}):
        shown = "\n".join(lines(parse({**found, **more})))
        assert "[2J" in shown
        assert all(character.isprintable() or character == "\n" for character in shown)


def _response(state: State) -> dict[str, Any]:
    """The response of ``/overview`` with this state."""
    return {**state.json, "master": {**state.hosts[0], "since": None}}


def test_another_reason_or_upstream_is_more_than_a_change_of_figures() -> None:
    state = healthy()
    event = {"hosts": state.hosts, "ready": True, "stale": False, "no_master": None}
    event["master"] = state.master
    assert state.after(event) is not None
    assert state.after({**event, "upstreams": ()}) is not None
    assert state.after({**event, "no_master": "dead"}) is None
    assert state.after({**event, "upstreams": [{"name": "w1", "error": None}]}) is None


def test_a_master_that_is_down() -> None:
    world = World(2).see_all(a=master(0), b=replica(0, receiving=False)).see("a", refused(5))
    assert any(
        line.split()[:3] == ["a:5432", "master", "down"] for line in lines(state_of(world.snapshot))
    )


def test_not_ready_and_stale() -> None:
    assert (
        "not ready: not every host has been checked yet"
        in lines(state_of(World().see("b", replica(0)).snapshot))[1]
    )
    stale = World().see_all(a=master(0), b=replica(0), c=replica(0)).snapshot
    assert any(line.startswith("stale: ") for line in lines(state_of(stale, 1e9)))


def test_long_names_and_messages_fit_into_the_width() -> None:
    state = with_hosts(
        split(), host=LONG, lsn="FFFFFFFF/FFFFFFFF", lag_ms=123_456_789, lag_bytes=2**63,
        reason=f"{LONG} " * 5, error="x" * 300,
    )  # fmt: skip
    for width in (80, 120):
        assert max(map(len, lines(state, width=width))) <= width


def test_lag_is_shown_in_the_units_of_people() -> None:
    state = with_hosts(healthy(), lag_ms=3712, lag_bytes=5_000_000, reason="3712 ms behind")
    text = "\n".join(lines(state))
    assert "3.7 s  5.0 MB" in text
    assert "3.7 s behind" in text
    assert "3712" not in text


def test_control_characters_of_a_server_do_not_reach_the_terminal() -> None:
    hostile = "\033]0;title\007\r\n[bold]"
    state = replace(
        with_hosts(healthy(), error=hostile, reason=hostile), no_master=hostile, master=None
    )
    text = "\n".join(lines(state))
    assert not any(character < " " for character in text.replace("\n", ""))
    assert "[bold]" in text


@pytest.mark.parametrize("is_dead", [False, True])
@pytest.mark.parametrize("lost", [None, "timeout"])
def test_a_hundred_hosts_fit_into_the_height(lost: str | None, is_dead: bool) -> None:
    """The master is shown, the rest is counted."""
    state = healthy()
    other = {**state.hosts[1], **({"alive": False, "error": "refused"} if is_dead else {})}
    hosts = [state.hosts[0], *({**other, "port": port} for port in range(1, 100))]
    shown = lines(replace(state, hosts=hosts), height=24, lost=lost)
    assert len(shown) <= 24
    assert any(line.startswith("a:5432  ") for line in shown)
    (more,) = [line for line in shown if " more hosts" in line]
    number = int(more.split()[0])
    assert more == f"{number} more hosts" + (f", {number} dead" if is_dead else "")
    assert number < 95, "the height is used"


def test_hosts_with_problems_are_shown_before_the_others() -> None:
    state = healthy()
    hosts = [{**state.hosts[1], "port": port} for port in range(1, 100)]
    hosts[90] = {**hosts[90], "alive": False, "error": "refused", "role": "unknown"}
    shown = lines(replace(state, hosts=[state.hosts[0], *hosts]), height=24)
    assert any(line.startswith("b:91") and "dead" in line for line in shown)


def test_the_age_of_the_master_with_the_date_if_it_is_long_ago() -> None:
    now = datetime.now(UTC)
    state = replace(healthy(), now=now, since=now - timedelta(seconds=3))
    assert "(3 s)" in lines(state)[1]
    long_ago = NOON.astimezone()
    text = lines(replace(state, since=long_ago))[1]
    assert f" since {long_ago:%Y-%m-%d %H:%M} (" in text


def test_while_it_is_unavailable_the_clock_stands_still() -> None:
    state = healthy()
    lost = lines(state, age=75.0, lost=f"no response from {URL}: timeout")
    at = f"{state.now.astimezone():%H:%M:%S}"
    assert lost[0] == f"pg-status is unavailable since {at} (1 min 15 s): timeout"
    assert lost[2:] == lines(state)
    assert lost[4].endswith(at)


def test_since_when_there_is_no_master_and_which_was_the_last() -> None:
    now = datetime.now(UTC)
    lost = now - timedelta(seconds=125)
    state = replace(split(SplitBrain.NONE), now=now, no_master_since=lost, last_master="a:5432")
    text = "\n".join(lines(state))
    since = f"{lost.astimezone():%H:%M:%S}"
    assert f"\nno master since {since} (2 min 5 s), previously a:5432\n" in text
    assert state.json["no_master_since"] == lost.isoformat(timespec="milliseconds")


def with_dead_hosts(count: int, name: str = "pg") -> State:
    """The master, a replica, and hosts whose names are those of Kubernetes."""
    state = healthy()
    dead = {
        **state.hosts[1], "role": "unknown", "alive": False, "in_sync": False, "lag_ms": None,
        "lag_bytes": None, "timeline": None, "lsn": None,
        "reason": "dead: 3 failed checks in a row",
    }  # fmt: skip
    hosts = [
        {**dead, "host": f"{name}-{i}.orders-postgresql-hl.production.svc",
         "error": "cannot resolve the host name: Name or service not known"}
        for i in range(count)
    ]  # fmt: skip
    return replace(state, hosts=[*state.hosts[:2], *hosts])


@pytest.mark.parametrize("height", range(12, 40))
def test_explanations_are_left_out_before_dead_hosts(height: int) -> None:
    shown = lines(with_dead_hosts(8), height=height)
    dead = [line for line in shown if re.match(r"pg-\d\..*  dead  ", line)]
    more = re.findall(r"^(\d+) more hosts?(.*)", "\n".join(shown), re.MULTILINE)
    assert len(shown) <= height
    explanations = [line for line in shown if line.startswith("  cannot resolve the host name")]
    assert explanations
    if len(dead) < 8:
        hidden = 9 - len(dead)
        assert more == [(str(hidden), f", {8 - len(dead)} dead")]
        assert len(explanations) == max(1, height // 6)
    if height == 24:
        assert len(dead) == 8, "as the screen permits"


def test_the_terminal_is_used_whatever_the_numbers() -> None:
    """Not one row more would fit, or all are shown."""
    for healthy_hosts in (0, 5, 40):
        for dead in (1, 3, 20):
            state = with_dead_hosts(dead)
            others = [{**state.hosts[1], "port": port} for port in range(1, healthy_hosts)]
            state = replace(state, hosts=[*state.hosts, *others])
            for height in (10, 24, 50):
                shown = lines(state, height=height)
                assert len(shown) <= height
                if any(" more host" in line for line in shown):
                    assert len(shown) >= height - 1


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("name", ["a", "127.100.200.201", LONG])
def test_names_remain_readable_on_a_narrow_terminal(width: int, name: str) -> None:
    """Columns are left out instead."""
    state = with_hosts(split(), host=name, lag_ms=123_456_789, lag_bytes=2**63)
    shown = lines(state, width=width)
    assert max(map(len, shown)) <= width
    rows = [line for line in shown if "not the master" in line]
    assert rows
    assert all(line.startswith(f"{name}:5432"[: 24 if width > 50 else 16]) for line in rows)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_clusters_on_a_narrow_terminal(width: int) -> None:
    """Columns are left out before the address of a master is broken."""
    entry = {
        "name": "orders", "level": "error", "state": "master possibly dead", "ready": True,
        "master": "127.100.200.201:5432", "master_since": None, "no_master": None,
        "masters": [], "replicas": 2, "replicas_in_sync": 2, "error": "cluster orders: x; "
        "cluster orders: y",
    }  # fmt: skip
    clusters = Clusters(now=NOON, version="1", instance=None, clusters=[entry])
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, highlight=False).print(
        ClustersScreen(clusters, Source(URL))
    )
    shown = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, shown)) <= width
    assert width == 40 or any("127.100.200.201:5432" in line for line in shown)
    assert any(" possibly dead" in line for line in shown)
    assert any(line.strip().removeprefix("orders").strip() == "x; y" for line in shown)


def test_an_outdated_master_that_is_down_accepts_no_writes() -> None:
    """The error is the cause, and therefore first."""
    world = World().see_all(a=master(0), b=replica(0), c=replica(0))
    world.see_all(b=master(5, 1100, timeline=2), a=refused(6))
    text = "\n".join(lines(state_of(world.snapshot, 7.0)))
    assert "a:5432  Connection refused; master on timeline 1, but timeline 2 exists" in text
    assert "writes will be lost" not in text
