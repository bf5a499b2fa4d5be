"""The metrics of a given snapshot and of given counters."""

import math
from dataclasses import replace

import pytest

from pgstatus.core.selection import Kind
from pgstatus.core.snapshot import Host, Snapshot
from pgstatus.errors import Cause
from pgstatus.outputs.hook import Hook
from pgstatus.telemetry.counters import Checks, RequestKind, Requests, Watchers
from pgstatus.telemetry.prometheus import Figures, expose
from tests.support.scrape import Samples, Scrape
from tests.support.world import World, master, refused, replica

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
QUESTIONS = {f"/{kind}" for kind in Kind} - {"/master"}


def scraped(
    snapshot: Snapshot, now: float = 0.0, requests: Requests | None = None, accept: str = ""
) -> Scrape:
    checks = Checks()
    checks.watch([Host("a", 5432)])
    media_type, body = expose(
        accept,
        clusters=[Figures("", snapshot, checks, Hook().runs, hook_pending=False)],
        now=now,
        watchers=Watchers(),
        requests=requests or Requests(),
        dropped_log_lines=7,
    )
    return Scrape(media_type, body.decode())


HEALTHY = World().see_all(a=master(1), b=replica(1), c=replica(1)).snapshot


def test_an_unknown_value_has_no_sample() -> None:
    """A number would be taken for a measurement: a lag of 0, an age of 0, timeline 0."""
    nothing = scraped(World().snapshot)
    known = scraped(HEALTHY, now=1.5)
    for name in ("timeline", "lag_seconds", "lag_bytes", "lsn_bytes", "evidence_age_seconds"):
        assert nothing[f"pg_status_host_{name}"] == {}
        assert set(known[f"pg_status_host_{name}"]) == {("a:5432",), ("b:5432",), ("c:5432",)}
    for name in ("up", "master", "possible_dead"):
        assert set(nothing[f"pg_status_host_{name}"].values()) == {0.0}


def test_a_dead_host_keeps_its_series_but_not_its_lag() -> None:
    world = World().see_all(a=master(1), b=replica(1), c=replica(1))
    for at in (6, 11, 16):
        world.see_all(a=master(at), b=refused(at), c=replica(at))
    scrape = scraped(world.snapshot, now=16.5)
    assert scrape["pg_status_host_up"] == {("a:5432",): 1, ("b:5432",): 0, ("c:5432",): 1}
    assert scrape["pg_status_host_role"]["b:5432", "unknown"] == 1
    assert ("b:5432",) not in scrape["pg_status_host_lag_seconds"]
    assert ("b:5432",) not in scrape["pg_status_host_evidence_age_seconds"]


def test_the_age_counts_from_the_last_successful_check() -> None:
    world = World().see_all(a=master(1), b=replica(1), c=replica(1)).see("b", refused(6))
    ages = scraped(world.snapshot, now=7.0)["pg_status_host_evidence_age_seconds"]
    assert ages["a:5432",] == ages["b:5432",] == 6.0


def test_a_split_brain_is_two_masters() -> None:
    world = World().see_all(a=master(1), b=replica(1), c=replica(1))
    scrape = scraped(world.see("b", master(6, 1100, timeline=2)).snapshot)
    assert scrape["pg_status_masters"] == {(): 2}
    assert scrape["pg_status_host_master"] == {("a:5432",): 0, ("b:5432",): 1, ("c:5432",): 0}


def test_ready_and_stale() -> None:
    assert scraped(World().snapshot, now=math.inf)["pg_status_stale"] == {(): 0}
    assert scraped(World().snapshot)["pg_status_ready"] == {(): 0}
    assert scraped(HEALTHY, now=HEALTHY.stale_after)["pg_status_stale"] == {(): 0}
    assert scraped(HEALTHY, now=HEALTHY.stale_after + 1)["pg_status_stale"] == {(): 1}
    assert scraped(HEALTHY)["pg_status_ready"] == {(): 1}


def test_a_fallback_is_also_a_request() -> None:
    requests = Requests()
    requests.of(RequestKind("/replica", "200", fell_back=True)).count += 2
    requests.of(RequestKind("/replica", "200", fell_back=False)).count += 3
    requests.of(RequestKind("/master", "200", fell_back=False)).count += 4
    scrape = scraped(HEALTHY, requests=requests)
    assert scrape["pg_status_http_requests_total"] == {
        ("/replica", "200"): 5,
        ("/master", "200"): 4,
    }
    fallbacks = scrape["pg_status_fallbacks_total"]
    assert set(fallbacks) == {(question,) for question in QUESTIONS}
    assert _counted(fallbacks) == {("/replica",): 2}


def test_all_counters_exist_from_the_start() -> None:
    """``rate()`` and ``increase()`` ignore the step from no value to 1."""
    scrape = scraped(HEALTHY)
    assert scrape["pg_status_failed_checks_total"] == {(cause, "a:5432"): 0 for cause in Cause}
    assert scrape["pg_status_role_changes_total"] == {("a:5432",): 0}
    assert scrape["pg_status_fallbacks_total"] == {(question,): 0 for question in QUESTIONS}
    assert set(scrape["pg_status_hook_runs_total"].values()) == {0}


def test_openmetrics_if_the_client_accepts_it() -> None:
    scrape = scraped(HEALTHY, accept=f"{OPENMETRICS},text/plain;q=0.5")
    assert scrape.media_type.startswith("application/openmetrics-text;")
    assert {"pg_status_build", "pg_status_masters"} <= scrape.names


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/plain", "nonsense", ";;=,,", "text/plain;version=x.y",
     "application/openmetrics-text;version=abc", f"{OPENMETRICS};version=nine"],
)  # fmt: skip
def test_every_accept_header_is_answered(accept: str) -> None:
    assert "pg_status_masters" in scraped(HEALTHY, accept=accept).names


def _counted(samples: Samples) -> Samples:
    return {labels: value for labels, value in samples.items() if value}


def test_log_lines_that_were_dropped() -> None:
    assert scraped(HEALTHY)["pg_status_log_lines_dropped_total"] == {(): 7}


def test_numbers_out_of_range_break_nothing() -> None:
    """A host may return any digits."""
    huge = 10**400
    first, *others = HEALTHY.hosts
    broken = replace(first, lsn=huge, lag_ms=huge, lag_bytes=huge, timeline=huge)
    for accept in ("", OPENMETRICS):
        scrape = scraped(replace(HEALTHY, hosts=(broken, *others)), accept=accept)
        for name in ("timeline", "lag_seconds", "lag_bytes", "lsn_bytes"):
            assert set(scrape[f"pg_status_host_{name}"]) == {("b:5432",), ("c:5432",)}


def test_a_host_name_in_another_encoding_breaks_nothing() -> None:
    first, *others = HEALTHY.hosts
    renamed = replace(first, host=Host("caf\udce9", 5432))
    scrape = scraped(replace(HEALTHY, hosts=(renamed, *others)))
    assert scrape["pg_status_host_up"][r"caf\udce9:5432",] == 1


def test_whether_a_host_accepts_new_sessions() -> None:
    first, second, third = HEALTHY.hosts
    hosts = (
        replace(first, admits=False),
        replace(second, admits=True),
        replace(third, admits=None),
    )
    scrape = scraped(replace(HEALTHY, hosts=hosts))
    assert scrape["pg_status_host_admits"] == {("a:5432",): 0, ("b:5432",): 1}
