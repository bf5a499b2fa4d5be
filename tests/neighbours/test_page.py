"""The status page of a real daemon in a real browser, during failures."""

import re
import signal
import socket
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
from tests.support.reverse_proxy import reverse_proxy
from tests.support.waiting import wait_until

pytestmark = needs_chromium

MARKUP = "<img src=x onerror='window.hacked = true'>"


NAME = f"pg-status on {socket.gethostname()}"
"""In the title, because the cluster has no name."""


def _is_live(page: Browser, master: str) -> bool:
    return page.title == f"{master} is master · {NAME}" and page.banners == []


def test_a_failover_is_shown_without_reloading(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, page: Browser
) -> None:
    """The new master, the dead host, history and charts; all requests go to the daemon."""
    cluster = make_cluster()
    daemon = make_daemon(cluster)
    page.open(daemon.url)
    before = cluster.primary.address
    wait_until("the master is shown", lambda: _is_live(page, before))
    assert "before the start of pg-status" in page.text("#since")
    page.run("window.same = true")

    lost = cluster.fail_over()

    after = cluster.primary.address
    wait_until("the new master is shown", lambda: _is_live(page, after))
    name = f"{after}:{cluster.primary.port}"
    assert page.text("[role=status]") == f"{name} is the master"
    assert re.match(r"since \d\d:\d\d:\d\d \(\d+ s\)$", page.text("#since"))
    assert page.text("#timeline") == "2"
    failovers = "#history > li.failover"
    (line,) = page.texts(f"{failovers} summary")
    assert re.match(
        rf"\d+ \w+ \d\d:\d\d:\d\d\.\d{{3}}\nfailover\n"
        rf"failover from {before}:\d+ to {name} in \d+(\.\d)? m?s \(timeline 2\)\n",
        line,
    )
    assert page.text(f"{failovers} ol") == "", "the details are collapsed"
    page.run(f"document.querySelector('{failovers} summary').click()")
    assert f"{name} is now the master (timeline 2" in page.text(f"{failovers} ol")
    assert page.texts("tbody .name")[0] == name, "the master is first"
    row = "tbody tr:nth-child(2)"
    wait_until("the lost host is dead", lambda: page.text(f"{row} .health") == "dead")
    assert page.texts(f"{row} .name, {row} .role") == [f"{before}:{lost.port}", "former master"]
    wait_until(
        "the details stay open",
        lambda: f"{before}:{lost.port} is dead" in page.text(f"{failovers} ol"),
    )
    wait_until("the replica follows", lambda: page.text("#in-sync") == "1 of 1 live")
    assert "failed checks in a row" in page.text(f"{row} .why")
    graph = f"document.querySelector('{row} svg')"
    wait_until("a gap", lambda: "unknown" in page.run(f"return {graph}.ariaLabel"))
    assert page.run("return window.same"), "the page was not reloaded"

    asked = {
        urlsplit(event["params"]["request"]["url"])._replace(query="").geturl()
        for event in page.network()
        if event["method"] == "Network.requestWillBeSent"
    }
    elsewhere = {url for url in asked if not url.startswith(("data:", "about:"))}
    assert elsewhere == {f"{daemon.url}/{path}" for path in ("", "overview", "watch")}


def test_a_stopped_daemon_and_its_return_are_shown(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, page: Browser
) -> None:
    cluster = make_cluster(replicas=0)
    daemon = make_daemon(cluster)
    page.open(daemon.url)
    wait_until("it is live", lambda: _is_live(page, cluster.primary.address))

    daemon.stop()

    wait_until("the banner", lambda: page.title == f"NO RESPONSE · {NAME}")
    assert page.banners == ["pg-status does not respond: no connection."]
    assert page.text("[role=status]").endswith(" was the master")
    age = re.compile(r"These data are (\d+)(\.\d)? s old\.")
    shown = age.match(page.text("#age"))
    assert shown
    assert page.texts("#condition, #uptime") == ["unknown", "unknown"]
    since = page.text("#since")
    wait_until("the age increases", lambda: int(age.match(page.text("#age"))[1]) > int(shown[1]))  # type: ignore[index]
    assert page.text("#since") == since

    daemon.launch()

    wait_until("it is live again", lambda: _is_live(page, cluster.primary.address))
    assert page.text("#age") == ""
    assert page.text("#condition") == "healthy"
    # The browser itself reports refused connections.
    assert all("ERR_CONNECTION_REFUSED" in message for message in page.console())


def test_a_hanging_daemon_is_shown_and_receives_one_request_at_a_time(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, page: Browser
) -> None:
    cluster = make_cluster(replicas=0)
    daemon = make_daemon(cluster)
    page.open(daemon.url)
    wait_until("it is live", lambda: _is_live(page, cluster.primary.address))
    kill(daemon.pid, signal.SIGSTOP)
    try:
        wait_until("the banner", lambda: page.title == f"NO RESPONSE · {NAME}")
        events: list[dict[str, Any]] = []

        def have_two_failed() -> bool:
            events.extend(page.network())
            failed = [e for e in events if e["method"] == "Network.loadingFailed"]
            return len(failed) >= 2

        wait_until("two requests have failed", have_two_failed)
        assert page.banners == ["pg-status does not respond: timeout."]
    finally:
        kill(daemon.pid, signal.SIGCONT)
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


def test_a_hidden_page_sends_no_requests(daemon: Daemon, page: Browser) -> None:
    def requests() -> int:
        return sum(e["method"] == "Network.requestWillBeSent" for e in page.network())

    page.open(daemon.url)
    wait_until("it is live", lambda: page.title.endswith(f"is master · {NAME}"))
    page.driver.minimize_window()
    wait_until("it is paused", lambda: page.title == f"paused · {NAME}")
    requests()
    began = page.run("return Date.now()")
    wait_until("three seconds have passed", lambda: page.run("return Date.now()") > began + 3000)
    assert requests() == 0
    page.driver.set_window_rect(0, 0, 1280, 900)
    wait_until("it is live again", lambda: page.title.endswith(f"is master · {NAME}"))
    assert page.banners == []


def test_without_a_stream_and_below_a_path_the_page_polls(
    daemon: Daemon, cluster: Cluster, page: Browser
) -> None:
    """As in an older pg-status, or behind a proxy that refuses the stream."""
    with reverse_proxy(daemon, "/ops/pg-status", refused=("/watch",)) as proxy:
        page.open(proxy.url)
        wait_until("it is live", lambda: _is_live(page, cluster.primary.address))

        def polls() -> int:
            return proxy.requests.count("/ops/pg-status/overview")

        before = polls()
        wait_until("it polls", lambda: polls() > before + 3)
        assert proxy.requests.count("/ops/pg-status/watch") == 1
        assert all("404" in message for message in page.console())
        page.driver.get("about:blank")


def test_the_token_is_accepted_as_password(
    make_daemon: DaemonFactory, cluster: Cluster, page: Browser, tmp_path: Path
) -> None:
    """The requests of the page use it too."""
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-some-length")
    daemon = make_daemon(cluster, http_token_file=tokens)
    page.open(daemon.url)
    assert page.title == ""
    assert "401" in page.console()[0]
    page.open(daemon.url.replace("//", f"//any:{tokens.read_text()}@"))
    wait_until("it is live", lambda: _is_live(page, cluster.primary.address))


def test_markup_in_an_error_message_is_shown_as_text(
    make_daemon: DaemonFactory, page: Browser, network: Network
) -> None:
    """The error message comes from a server that is not PostgreSQL."""
    fields = b"SFATAL\0VFATAL\0C28000\0M" + MARKUP.encode() + b"\0\0"
    answer = b"E" + (len(fields) + 4).to_bytes(4, "big") + fields
    address = network.address(200)
    with listener(address, answer) as port:
        daemon = make_daemon(hosts=f"postgresql://{address}:{port}/?sslmode=disable")
        page.open(daemon.url)
        wait_until("the message is shown", lambda: MARKUP in page.text("tbody .why"))
        page.run("document.querySelector('#history summary').click()")
        wait_until("it is in the history", lambda: MARKUP in page.text("#history"))
        assert page.title == f"NO MASTER · {NAME}"
        assert page.run("return [document.images.length, window.hacked]") == [0, None]
