"""The status page in states that cannot be produced on demand with a real cluster, and its
accessibility: colour schemes, narrow screens, keyboard, screen readers.

The page of a real daemon runs in a real browser with a modified overview.
"""

import json
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.support.browser import (  # noqa: F401
    Browser,
    chromium_of_module,
    needs_chromium,
    page_in_chromium,
)
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

pytestmark = needs_chromium

NAME = f"pg-status on {socket.gethostname()}"
"""In the title, because the cluster has no name."""

MARKUP = "<img src=x onerror='window.hacked = true'>"
HOSTILE = f"{MARKUP}</script><b>bold</b> " + "x" * 200
_MODIFIED_FETCH = """
window.fetch = async () => {
  if (!window.overview) throw new TypeError("refused");
  return new Response(JSON.stringify({...window.overview, now: new Date()}));
};
"""


class ModifiedPage:
    """The page with a modified overview."""

    def __init__(self, page: Browser, daemon: Daemon) -> None:
        self.overview: dict[str, Any] = daemon.json("/overview")
        self._page = page
        self._undo = page.driver.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument", {"source": _MODIFIED_FETCH}
        )
        page.open(daemon.url)
        self.show()
        wait_until("it is shown", lambda: len(page.texts("tbody tr")) == len(self.hosts))

    @property
    def hosts(self) -> list[dict[str, Any]]:
        hosts: list[dict[str, Any]] = self.overview["hosts"]
        return hosts

    def change(self, kind: str, **other: object) -> Mapping[str, object]:
        """A line of the history."""
        usual = {"at": self.overview["now"], "host": None, "level": "info", "text": kind}
        return {"change": kind, **usual, "entries": [{"change": kind, **usual}], **other}

    def show(self, **changes: object) -> None:
        self.overview.update(changes)
        self._page.run("window.overview = JSON.parse(arguments[0])", json.dumps(self.overview))

    def break_off(self) -> None:
        self._page.run("window.overview = null")

    def close(self) -> None:
        self._page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", self._undo)


@pytest.fixture
def modified(page: Browser, daemon: Daemon) -> Iterator[ModifiedPage]:
    modified = ModifiedPage(page, daemon)
    yield modified
    modified.close()


def test_markup_in_names_and_messages_is_shown_as_text(
    page: Browser, modified: ModifiedPage
) -> None:
    """In every place that shows text from outside."""
    for host in modified.hosts:
        host.update(
            host=HOSTILE, dc=HOSTILE, geo=HOSTILE, lsn=HOSTILE, reason=HOSTILE, error=HOSTILE
        )
    modified.show(
        master=None,
        no_master=HOSTILE,
        version=HOSTILE,
        history=[modified.change("health", text=HOSTILE, host=HOSTILE)],
    )
    wait_until("the banner", lambda: page.banners == [f"No master: {HOSTILE}."])
    for where in (".name", ".place", ".lsn", ".why", "#history", "#version"):
        assert MARKUP in page.text(where), where
    assert page.run("return [document.images.length, document.querySelector('main b')]") == [
        0,
        None,
    ]
    assert page.run("return window.hacked") is None


def test_a_host_that_rejects_new_sessions_shows_the_reason(
    page: Browser, modified: ModifiedPage
) -> None:
    modified.hosts[0].update(admits=False, refusal="too many clients")
    modified.show()
    expected = "does not accept new sessions: too many clients"
    wait_until("the reason", lambda: page.text("tbody tr:nth-child(1) .why") == expected)
    assert page.text("tbody tr:nth-child(1) .health") == "refuses logins"


def test_each_problem_has_a_banner_and_a_title(page: Browser, modified: ModifiedPage) -> None:
    """Split brain, master possibly dead, no master, stale, not ready."""
    first, second = modified.hosts[:2]
    name, other = (f"{host['host']}:{host['port']}" for host in (first, second))

    modified.show(masters=[name, other])
    wait_until("split brain", lambda: page.title == f"SPLIT BRAIN · {NAME}")
    assert page.banners == [
        f"Split brain: {name} and {other} are primaries. Reported master: {name}."
    ]

    first.update(possible_dead=True, error="no response")
    modified.show(masters=[])
    wait_until(
        "master possibly dead", lambda: page.title == f"{first['host']} possibly dead · {NAME}"
    )
    text = "the last check of the master failed (no response)."
    assert page.banners == [f"{name} is possibly dead: {text}"]

    first.update(down=True)
    modified.show()
    wait_until("master down", lambda: page.title == f"{first['host']} down · {NAME}")
    assert page.banners == [f"{name} is down: {text}"]
    assert page.text("tbody tr:nth-child(1) .health") == "down"

    first.update(master=False, alive=False, down=False, role="unknown")
    modified.show(master=None, no_master="no live host is a primary")
    wait_until("no master", lambda: page.title == f"NO MASTER · {NAME}")
    assert page.banners == ["No master: no live host is a primary."]
    assert page.text("[role=status]") == "No master"

    modified.show(stale=True)
    wait_until("stale", lambda: page.title == f"STALE · {NAME}")
    assert "other endpoints return 503" in page.banners[0]

    modified.show(stale=False, ready=False)
    wait_until("not ready", lambda: page.title == f"not ready · {NAME}")
    assert page.text("[role=status]") == "Not known yet"
    assert page.text("#since") == ""


def test_screen_readers_announce_changes_only(page: Browser, modified: ModifiedPage) -> None:
    """An unchanged master or banner is not announced again at each update."""
    names = [f"{host['host']}:{host['port']}" for host in modified.hosts]
    modified.show(masters=names[:2])
    wait_until("split brain", lambda: page.title == f"SPLIT BRAIN · {NAME}")
    page.run(
        """window.announced = 0;
        const observer = new MutationObserver(() => announced++);
        for (const region of document.querySelectorAll("[role=status], [role=alert], [aria-live]"))
          observer.observe(region, {subtree: true, childList: true, characterData: true});"""
    )
    times = set()

    def is_older() -> bool:
        times.add(page.text("#live"))
        return len(times) > 3

    wait_until("three updates", is_older)
    assert page.run("return announced") == 0
    replica = modified.hosts[1]
    modified.show(master={"host": replica["host"], "port": replica["port"], "since": None})
    wait_until("the new master", lambda: page.text("[role=status]") == f"{names[1]} is the master")
    assert page.run("return announced") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Browser, modified: ModifiedPage, scheme: str) -> None:
    """Contrast, names, roles, heading order; normal, with problems, without response."""
    page.prefer(color_scheme=scheme, reduced_motion="reduce")
    assert page.violations() == []
    name, other = (f"{host['host']}:{host['port']}" for host in modified.hosts[:2])
    modified.hosts[0].update(possible_dead=True, error="no response")
    modified.hosts[1].update(in_sync=False, reason="1200 ms behind (limit 1000 ms)")
    modified.hosts[2].update(alive=False, role="unknown", error="Connection refused")
    modified.show(
        masters=[name, other],
        history=[modified.change("role", level=level) for level in ("error", "warning", "info")]
        + [modified.change("failover", entries=[modified.change("sync"), modified.change("role")])],
    )
    wait_until("split brain and a dead host", lambda: page.title == f"SPLIT BRAIN · {NAME}")
    assert page.violations() == []
    modified.break_off()
    wait_until("no response", lambda: page.title == f"NO RESPONSE · {NAME}")
    assert page.violations() == []


def test_a_narrow_screen_scrolls_vertically_only(page: Browser, modified: ModifiedPage) -> None:
    page.resize(320, 640)
    name = "standby-1.a-rather-long-name.database.svc.cluster.local"
    for number, host in enumerate(modified.hosts):
        host.update(host=f"{number}{name}", lsn="FFFFFFFF/FFFFFFFF", lag_ms=123_456_789)
        host.update(reason=f"{name} " * 5, error="x" * 300, lag_bytes=2**63)
    change = modified.change("split_brain", level="warning", text=name, at="2026-01-01T00:00:00Z")
    modified.show(master=None, no_master="x" * 300, history=[change])
    wait_until("it is shown", lambda: page.title == f"NO MASTER · {NAME}")
    assert page.run("return document.documentElement.scrollWidth") == 320


def test_the_keyboard_filters_the_history(page: Browser, modified: ModifiedPage) -> None:
    kinds = ["sync", "master", "ready", "health", "role", "split_brain", "interruption"]
    modified.show(history=[modified.change(kind) for kind in kinds])
    wait_until("the history", lambda: len(page.texts("#history li")) == len(kinds))
    body = page.driver.find_element("css selector", "body")
    body.send_keys(Keys.TAB, Keys.TAB)
    page.driver.switch_to.active_element.send_keys(Keys.SPACE)
    assert page.texts("#history .text") == ["master", "role", "split_brain", "interruption"]


def test_a_failover_is_one_line_whose_details_the_keyboard_opens(
    page: Browser, modified: ModifiedPage
) -> None:
    entries = [modified.change(kind) for kind in ("health", "master", "sync")]
    failover = modified.change("failover", level="warning", text="from a to b", entries=entries)
    modified.show(history=[failover])
    wait_until("the line", lambda: page.text("#history .count") == "3 changes")
    assert page.texts("#history ol .text") == []
    body = page.driver.find_element("css selector", "body")
    body.send_keys(Keys.TAB, Keys.TAB, Keys.TAB)
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.texts("#history ol .text") == ["health", "master", "sync"]
    modified.show(history=[modified.change("sync"), failover])
    wait_until("another line", lambda: len(page.texts("#history > li")) == 2)
    assert page.texts("#history ol .text") == ["health", "master", "sync"]


def test_the_name_of_the_cluster_and_of_the_instance(page: Browser, modified: ModifiedPage) -> None:
    modified.show(cluster="orders", instance="app-1")
    wait_until("the name", lambda: page.title.endswith(" is master · orders"))
    assert page.texts("h1, #instance") == ["orders", "pg-status on app-1"]
    modified.show(cluster=None)
    wait_until("the instance", lambda: page.title.endswith(" is master · pg-status on app-1"))


def test_the_condition_of_pg_status_itself(page: Browser, modified: ModifiedPage) -> None:
    assert page.text("#condition") == "healthy"
    service = modified.overview["service"]
    runs = {"ok": 12, "failed": 1, "timeout": 0}
    modified.show(
        service={**service, "reloads": 2, "last_reload": "refused", "dropped_log_lines": 3,
                 "hook_runs": runs, "hook_pending": True},
        documentation="https://docs.example.org/",
    )  # fmt: skip
    wait_until("the problems", lambda: page.text("#condition") == "problems")
    assert page.text("#service-why") == (
        "the last reload was refused, and the previous configuration is in use; "
        "3 log lines lost; the on_change command has not run with the newest state"
    )
    assert page.text("#reloads") == "2, last refused"
    assert page.text("#hook") == "12 ok, 1 failed"
    links = {
        link.text: link.get_attribute("href")
        for link in page.driver.find_elements("css selector", "nav a")
    }
    assert links["Documentation"] == "https://docs.example.org/"
    assert str(links["Metrics"]).endswith("/metrics")


def test_a_relay_shows_its_upstreams(page: Browser, modified: ModifiedPage) -> None:
    assert page.text("#upstreams") == ""
    lost = {"name": "http://w3:8000", "error": "Connection refused"}
    upstreams = [{"name": "http://w1:8000", "error": None}, lost]
    modified.show(upstreams=upstreams)
    wait_until("they are shown", lambda: page.text("#upstreams") == "1 of 2 deliver evidence")
    assert page.text("#condition") == "problems"
    assert page.text("#service-why") == "no evidence from http://w3:8000: Connection refused"
    assert page.run("return document.getElementById('condition').className") == "tag warning"
    modified.show(upstreams=[lost])
    wait_until("an error", lambda: page.text("#upstreams") == "0 of 1 deliver evidence")
    assert page.run("return document.getElementById('condition').className") == "tag error"


def test_since_when_there_is_a_master_or_none(page: Browser, modified: ModifiedPage) -> None:
    """Also if it began before the start of pg-status."""
    assert page.text("#since") == "since before the start of pg-status"
    at = "2026-01-01T12:00:00Z"
    modified.show(master=None, no_master="dead", no_master_since=at, last_master="pg1:5432")
    shown = re.compile(r"no master since 1 Jan \d\d:00:00 \(\d+ d( \d+ h)?\), previously pg1:5432")
    wait_until("the time", lambda: shown.fullmatch(page.text("#since")))
    modified.show(no_master_since=None, last_master=None)
    expected = "no master since before the start of pg-status"
    wait_until("it is unknown", lambda: page.text("#since") == expected)


def test_a_second_master_and_the_lag_of_the_master(page: Browser, modified: ModifiedPage) -> None:
    modified.hosts[1].update(role="master", in_sync=False)
    modified.show()
    second = "tbody tr:nth-child(2)"
    wait_until("its role", lambda: page.text(f"{second} .role") == "second master")
    assert page.text(f"{second} .health") == "not the master"
    assert page.text("tbody tr:nth-child(1) .lag") == ""
    modified.show(master=None, no_master="split brain")
    wait_until("no master", lambda: page.text(f"{second} .role") == "master")


def test_the_peak_of_a_chart_is_at_least_the_present_lag(
    page: Browser, modified: ModifiedPage
) -> None:
    modified.hosts[1].update(lag_ms=5300, lags_ms=[None] * 148 + [20, 30])
    modified.show()
    peak = "tbody tr:nth-child(2) .peak"
    wait_until("the peak", lambda: page.text(peak).startswith("peak 5.3 s"))


def test_the_former_master_and_no_master_are_red(page: Browser, modified: ModifiedPage) -> None:
    former = modified.hosts[0]
    former.update(master=False, alive=False, role="unknown", error="Connection refused")
    modified.show(master=None, no_master="dead", former_master=f"{former['host']}:{former['port']}")
    wait_until("no master", lambda: page.text("#master") == "No master")
    assert page.texts("tbody tr:nth-child(1) .tag") == ["former master", "dead"]
    colours = page.run(
        """return ["#master", "tbody .role"].map(
            (selector) => getComputedStyle(document.querySelector(selector)).color)"""
    )
    assert colours == ["rgb(163, 33, 26)"] * 2


def test_on_a_phone_the_history_is_collapsed(
    page: Browser, modified: ModifiedPage, daemon: Daemon
) -> None:
    page.resize(390, 800)
    page.open(daemon.url)
    modified.show(history=[modified.change("failover", text="from a to b")])
    wait_until("the latest change", lambda: page.text("#latest").endswith("from a to b"))
    assert page.texts("#history > li") == []
    page.driver.find_element("css selector", "#history-box > summary").click()
    assert len(page.texts("#history > li")) == 1


@pytest.mark.parametrize(("wish", "animation"), [("no-preference", "arrive"), ("reduce", "none")])
def test_animations_respect_the_preference_for_reduced_motion(
    page: Browser, modified: ModifiedPage, wish: str, animation: str
) -> None:
    page.prefer(reduced_motion=wish)
    modified.show(history=[modified.change("role")])
    wait_until("the new entry", lambda: page.text("#history .new"))
    new = "getComputedStyle(document.querySelector('#history .new')).animationName"
    assert page.run(f"return {new}") == animation
