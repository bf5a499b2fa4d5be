"""The status page in states that no cluster can be brought into at a wanted moment, and as people
see it who use it otherwise: in the dark, on a phone, by keyboard, with a screen reader.

It is the daemon's page in a real browser; its overview is the daemon's with changes.
"""

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
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

MARKUP = "<img src=x onerror='window.hacked = true'>"
HOSTILE = f"{MARKUP}</script><b>bold</b> " + "x" * 200
_INSTEAD_OF_THE_NETWORK = """
window.fetch = async () => {
  if (!window.overview) throw new TypeError("refused");
  return new Response(JSON.stringify({...window.overview, now: new Date()}));
};
"""


class Pretence:
    """The page with an overview of our own."""

    def __init__(self, page: Browser, daemon: Daemon) -> None:
        self.overview: dict[str, Any] = daemon.json("/overview")
        self._page = page
        self._undo = page.driver.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument", {"source": _INSTEAD_OF_THE_NETWORK}
        )
        page.open(daemon.url)
        self.show()
        wait_until("it is shown", lambda: len(page.texts("tbody tr")) == len(self.hosts))

    @property
    def hosts(self) -> list[dict[str, Any]]:
        hosts: list[dict[str, Any]] = self.overview["hosts"]
        return hosts

    def change(self, kind: str, **other: object) -> Mapping[str, object]:
        """An entry of the history."""
        usual = {"at": self.overview["now"], "host": None, "level": "info", "text": kind}
        return {"change": kind, **usual, **other}

    def show(self, **changes: object) -> None:
        self.overview.update(changes)
        self._page.run("window.overview = JSON.parse(arguments[0])", json.dumps(self.overview))

    def break_off(self) -> None:
        self._page.run("window.overview = null")

    def close(self) -> None:
        self._page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", self._undo)


@pytest.fixture
def pretence(page: Browser, daemon: Daemon) -> Iterator[Pretence]:
    pretence = Pretence(page, daemon)
    yield pretence
    pretence.close()


def test_hostile_names_and_texts_are_text(page: Browser, pretence: Pretence) -> None:
    """Wherever a text from outside can appear."""
    for host in pretence.hosts:
        host.update(
            host=HOSTILE, dc=HOSTILE, geo=HOSTILE, lsn=HOSTILE, reason=HOSTILE, error=HOSTILE
        )
    pretence.show(
        master=None,
        no_master=HOSTILE,
        version=HOSTILE,
        history=[pretence.change("health", text=HOSTILE, host=HOSTILE)],
    )
    wait_until("the banner", lambda: page.banners == [f"No master: {HOSTILE}."])
    for where in (".name", ".place", ".lsn", ".why", "#history", "#version"):
        assert MARKUP in page.text(where), where
    assert page.run("return [document.images.length, document.querySelector('main b')]") == [
        0,
        None,
    ]
    assert page.run("return window.hacked") is None


def test_what_is_wrong_is_said_aloud(page: Browser, pretence: Pretence) -> None:
    """Split brain, no master, a shaky master, too old, not ready: a banner and the tab's title."""
    first, second = pretence.hosts[:2]
    name, other = (f"{host['host']}:{host['port']}" for host in (first, second))

    pretence.show(masters=[name, other])
    wait_until("split brain", lambda: page.title == "SPLIT BRAIN · pg-status")
    assert page.banners == [
        f"Split brain: {name} and {other} say they are the master. {name} is named."
    ]

    first.update(possible_dead=True, error="no answer")
    pretence.show(masters=[])
    wait_until("a shaky master", lambda: page.title == f"{first['host']} possibly dead · pg-status")
    assert page.banners == [f"{name} is possibly dead: the last check of the master failed."]

    first.update(master=False, alive=False, role="unknown")
    pretence.show(master=None, no_master="nobody says so")
    wait_until("no master", lambda: page.title == "NO MASTER · pg-status")
    assert page.banners == ["No master: nobody says so."]
    assert page.text("[role=status]") == "No master"

    pretence.show(stale=True)
    wait_until("too old", lambda: page.title == "TOO OLD · pg-status")
    assert "is not served any more" in page.banners[0]

    pretence.show(stale=False, ready=False)
    wait_until("not ready", lambda: page.title == "not ready · pg-status")
    assert page.text("[role=status]") == "Not known yet"


def test_a_screen_reader_is_told_of_changes_only(page: Browser, pretence: Pretence) -> None:
    """Neither the master nor a banner that stands there is spoken every second."""
    names = [f"{host['host']}:{host['port']}" for host in pretence.hosts]
    pretence.show(masters=names[:2])
    wait_until("split brain", lambda: page.title == "SPLIT BRAIN · pg-status")
    page.run(
        """window.spoken = 0;
        const observer = new MutationObserver(() => spoken++);
        for (const region of document.querySelectorAll("[role=status], [role=alert], [aria-live]"))
          observer.observe(region, {subtree: true, childList: true, characterData: true});"""
    )
    times = set()

    def is_older() -> bool:
        times.add(page.text("#live"))
        return len(times) > 3

    wait_until("three seconds of news", is_older)
    assert page.run("return spoken") == 0
    replica = pretence.hosts[1]
    pretence.show(master={"host": replica["host"], "port": replica["port"], "since": None})
    wait_until("a new one", lambda: page.text("[role=status]") == f"{names[1]} is the master")
    assert page.run("return spoken") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Browser, pretence: Pretence, scheme: str) -> None:
    """Contrast, names, roles, order of headings: of the good hour, the bad one and no answer."""
    page.prefer(color_scheme=scheme, reduced_motion="reduce")
    page.run((files("axe_core_python") / "axe.min.js").read_text("utf-8"))

    def findings() -> list[object]:
        result = page.driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
        assert result["passes"]
        unsure = [rule for rule in result["incomplete"] if rule["id"] == "color-contrast"]
        return [(rule["id"], rule["nodes"][0]["html"]) for rule in result["violations"] + unsure]

    assert findings() == []
    name, other = (f"{host['host']}:{host['port']}" for host in pretence.hosts[:2])
    pretence.hosts[0].update(possible_dead=True, error="no answer")
    pretence.hosts[1].update(in_sync=False, reason="is 1200 ms behind, more than 1000")
    pretence.hosts[2].update(alive=False, role="unknown", error="Connection refused")
    pretence.show(
        masters=[name, other],
        history=[pretence.change("role", level=level) for level in ("error", "warning", "info")],
    )
    wait_until("the bad hour", lambda: page.title == "SPLIT BRAIN · pg-status")
    assert findings() == []
    pretence.break_off()
    wait_until("no answer", lambda: page.title == "NO ANSWER · pg-status")
    assert findings() == []


def test_a_narrow_phone_scrolls_in_one_direction_only(page: Browser, pretence: Pretence) -> None:
    page.resize(320, 640)
    name = "standby-1.a-rather-long-name.database.svc.cluster.local"
    for number, host in enumerate(pretence.hosts):
        host.update(host=f"{number}{name}", lsn="FFFFFFFF/FFFFFFFF", lag_ms=123_456_789)
        host.update(reason=f"{name} " * 5, error="x" * 300, lag_bytes=2**63)
    change = pretence.change("split_brain", level="warning", text=name, at="2026-01-01T00:00:00Z")
    pretence.show(master=None, no_master="x" * 300, history=[change])
    wait_until("it is shown", lambda: page.title == "NO MASTER · pg-status")
    assert page.run("return document.documentElement.scrollWidth") == 320


def test_the_keyboard_filters_the_history(page: Browser, pretence: Pretence) -> None:
    kinds = ["sync", "master", "health", "role", "split_brain"]
    pretence.show(history=[pretence.change(kind) for kind in kinds])
    wait_until("the history", lambda: len(page.texts("#history li")) == len(kinds))
    body = page.driver.find_element("css selector", "body")
    body.send_keys(Keys.TAB)
    page.driver.switch_to.active_element.send_keys(Keys.SPACE)
    assert page.texts("#history .text") == ["master", "role", "split_brain"]


@pytest.mark.parametrize(("wish", "animation"), [("no-preference", "arrive"), ("reduce", "none")])
def test_nothing_moves_for_who_does_not_want_it(
    page: Browser, pretence: Pretence, wish: str, animation: str
) -> None:
    page.prefer(reduced_motion=wish)
    pretence.show(history=[pretence.change("role")])
    wait_until("the new entry", lambda: page.text("#history .new"))
    new = "getComputedStyle(document.querySelector('#history .new')).animationName"
    assert page.run(f"return {new}") == animation
