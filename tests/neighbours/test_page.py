"""The status page in a real browser, before a real daemon: what a person sees in the bad hour."""

import re
import signal
from os import kill
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.conftest import ClusterFactory, DaemonFactory
from tests.support.browser import (  # noqa: F401
    Browser,
    chromium_of_module,
    needs_chromium,
    page_in_chromium,
)
from tests.support.daemon import Daemon
from tests.support.illhosts import listener
from tests.support.waiting import wait_until

pytestmark = needs_chromium

MARKUP = "<img src=x onerror='window.hacked = true'>"


def _is_live(page: Browser, master: str) -> bool:
    return page.title == f"{master} is master · pg-status" and page.banners == []


def test_a_failover_is_seen_without_reloading(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, page: Browser
) -> None:
    """The new master, the dead one, the history, the charts; and nobody but the daemon is asked."""
    cluster = make_cluster()
    daemon = make_daemon(cluster)
    page.open(daemon.url)
    before = cluster.primary.address
    wait_until("the master is shown", lambda: _is_live(page, before))
    assert "before pg-status was watching" in page.text("#since")
    page.run("window.same = true")

    lost = cluster.fail_over()

    after = cluster.primary.address
    wait_until("the new master is shown", lambda: _is_live(page, after))
    name = f"{after}:{cluster.primary.port}"
    assert page.text("[role=status]") == f"{name} is the master"
    assert re.match(r"since \d\d:\d\d:\d\d, (just now|\d+ s ago)$", page.text("#since"))
    assert page.text("#timeline") == "2"
    told = next(text for text in page.texts("#history li.master"))
    assert f"master is {name} (timeline 2" in told
    row = f"tbody tr:nth-child({1 + cluster.servers.index(lost)})"
    wait_until("the lost one is dead", lambda: page.text(f"{row} .health") == "dead")
    assert "failed checks in a row" in page.text(f"{row} .why")
    graph = f"document.querySelector('{row} svg')"
    wait_until("a gap", lambda: "unknown" in page.run(f"return {graph}.ariaLabel"))
    assert page.run("return window.same"), "it was loaded anew"

    asked = {
        urlsplit(event["params"]["request"]["url"])._replace(query="").geturl()
        for event in page.network()
        if event["method"] == "Network.requestWillBeSent"
    }
    elsewhere = {url for url in asked if not url.startswith(("data:", "about:"))}
    assert elsewhere == {f"{daemon.url}/", f"{daemon.url}/overview"}


def test_a_daemon_that_is_gone_is_told_and_its_return_is_seen(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, page: Browser
) -> None:
    cluster = make_cluster(replicas=0)
    daemon = make_daemon(cluster)
    page.open(daemon.url)
    wait_until("it is live", lambda: _is_live(page, cluster.primary.address))

    daemon.stop()

    wait_until("it is told", lambda: page.title == "NO ANSWER · pg-status")
    assert page.banners == ["pg-status does not answer: no connection."]
    assert page.text("[role=status]").endswith(" was the master")
    age = re.compile(r"What is shown is (\d+)(\.\d)? s old\.")
    shown = age.match(page.text("#age"))
    assert shown
    wait_until("it ages", lambda: int(age.match(page.text("#age"))[1]) > int(shown[1]))  # type: ignore[index]

    daemon.launch()

    wait_until("it is live again", lambda: _is_live(page, cluster.primary.address))
    assert page.text("#age") == ""
    # The browser itself tells of connections that were refused.
    assert all("ERR_CONNECTION_REFUSED" in complaint for complaint in page.console())


def test_a_daemon_that_hangs_is_told_and_not_asked_twice_at_a_time(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, page: Browser
) -> None:
    cluster = make_cluster(replicas=0)
    daemon = make_daemon(cluster)
    page.open(daemon.url)
    wait_until("it is live", lambda: _is_live(page, cluster.primary.address))
    worker = daemon.pid
    kill(worker, signal.SIGSTOP)
    try:
        wait_until("it is told", lambda: page.title == "NO ANSWER · pg-status")
        events: list[dict[str, Any]] = []

        def has_given_up_twice() -> bool:
            events.extend(page.network())
            given_up = [e for e in events if e["method"] == "Network.loadingFailed"]
            return len(given_up) >= 2

        wait_until("two requests were given up", has_given_up_twice)
        assert page.banners == ["pg-status does not answer: nothing came in time."]
    finally:
        kill(worker, signal.SIGCONT)
    wait_until("it is live again", lambda: _is_live(page, cluster.primary.address))
    events.extend(page.network())
    open_requests: set[str] = set()
    for event in events:
        match event["method"]:
            case "Network.requestWillBeSent":
                if event["params"]["request"]["url"] == f"{daemon.url}/overview":
                    open_requests.add(event["params"]["requestId"])
            case "Network.loadingFinished" | "Network.loadingFailed":
                open_requests.discard(event["params"]["requestId"])
        assert len(open_requests) <= 1


def test_nothing_is_asked_while_nobody_looks(daemon: Daemon, page: Browser) -> None:
    def asked() -> int:
        return sum(e["method"] == "Network.requestWillBeSent" for e in page.network())

    page.open(daemon.url)
    wait_until("it is live", lambda: page.title.endswith("is master · pg-status"))
    page.driver.minimize_window()
    wait_until("it is paused", lambda: page.title == "paused · pg-status")
    asked()
    began = page.run("return Date.now()")
    wait_until("three seconds have passed", lambda: page.run("return Date.now()") > began + 3000)
    assert asked() == 0
    page.driver.set_window_rect(0, 0, 1280, 900)
    wait_until("it is live again", lambda: page.title.endswith("is master · pg-status"))
    assert page.banners == []


def test_the_token_as_password(
    make_daemon: DaemonFactory, cluster: Cluster, page: Browser, tmp_path: Path
) -> None:
    """The page's own requests need not ask for it again."""
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-some-length")
    daemon = make_daemon(cluster, http_token_file=tokens)
    page.open(daemon.url)
    assert page.title == ""
    assert "401" in page.console()[0]
    page.open(daemon.url.replace("//", f"//any:{tokens.read_text()}@"))
    wait_until("it is live", lambda: _is_live(page, cluster.primary.address))


def test_what_a_hostile_server_answers_is_text(
    make_daemon: DaemonFactory, page: Browser, network: Network
) -> None:
    """Markup in the error message of what listens where a host should be."""
    fields = b"SFATAL\0VFATAL\0C28000\0M" + MARKUP.encode() + b"\0\0"
    answer = b"E" + (len(fields) + 4).to_bytes(4, "big") + fields
    address = network.address(200)
    with listener(address, answer) as port:
        daemon = make_daemon(hosts=f"postgresql://{address}:{port}/?sslmode=disable")
        page.open(daemon.url)
        wait_until("the message is shown", lambda: MARKUP in page.text("tbody .why"))
        wait_until("it is in the history", lambda: MARKUP in page.text("#history"))
        assert page.title == "NO MASTER · pg-status"
        assert page.run("return [document.images.length, window.hacked]") == [0, None]
