"""The status page of an instance with several clusters, in a real browser."""

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from os import kill
from pathlib import Path
from typing import Any

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import Daemons
from tests.support.browser import (  # noqa: F401
    Browser,
    chromium_of_module,
    needs_chromium,
    page_in_chromium,
)
from tests.support.daemon import Daemon
from tests.support.reverse_proxy import ReverseProxy, reverse_proxy
from tests.support.several import definition, several_clusters, start_several  # noqa: F401
from tests.support.waiting import wait_until

pytestmark = needs_chromium

NAME = f"pg-status on {socket.gethostname()}"
MARKUP = "<img src=x onerror='window.hacked = true'>"
ROWS = "#clusters tr"

Hundred = Callable[..., AbstractContextManager[ReverseProxy]]


def names(page: Browser) -> list[str]:
    return page.texts(f"{ROWS} .name")


def test_one_line_for_each_cluster_and_a_link_to_its_page(
    several: Daemon, cluster: Cluster, page: Browser
) -> None:
    """Also below a path."""
    master = f"{cluster.primary.address}:{cluster.primary.port}"
    with reverse_proxy(several) as proxy:
        page.open(proxy.url)
        wait_until("the clusters", lambda: names(page) == ["users", "stock", "orders"])
        assert page.title == f"2 CLUSTERS WITH ERRORS · {NAME}"
        assert page.banners == ["No master: users.", "Configuration rejected: stock."]
        assert page.text("h1") == "pg-status"
        assert page.text("[role=status]") == "1 of 3 clusters with a master"
        assert page.texts("#errors, #warnings, #in-sync") == ["2", "0", "2 of 2 live"]
        assert page.texts(f"{ROWS} .health") == ["no master", "rejected", "ok"]
        assert page.texts(f"{ROWS} .master-name")[2] == master
        assert page.texts(f"{ROWS} .synced")[2] == "2 of 2"
        assert page.texts(f"{ROWS} .since")[::2] == ["before the start"] * 2
        assert page.texts(f"{ROWS} .alive") == ["0 of 1", "0 of 0", "3 of 3"]
        assert page.text(f"{ROWS}:nth-child(2) .why").startswith("pg_status__hosts")
        assert page.texts("#hosts, #history, #timeline, #back") == []
        assert page.text("#condition") == "healthy"
        links = "return [...document.querySelectorAll('#clusters a')].map((a) => a.href)"
        assert page.run(links) == [f"{proxy.url}/c/users/", "", f"{proxy.url}/c/orders/"]
        colours = page.run(
            """return [...document.querySelectorAll('#clusters a, #clusters .alive')].map(
                (node) => getComputedStyle(node).color)"""
        )
        assert colours[2] == colours[1] != colours[0], "a name without a page is no link"

        page.run(f"document.querySelector('{ROWS}:nth-child(3) a').click()")
        wait_until(
            "the page of the cluster",
            lambda: page.title == f"{cluster.primary.address} is master · orders",
        )
        assert page.text("h1") == "orders"
        assert page.texts(f"{ROWS}, #errors") == []
        assert len(page.texts("#hosts tr")) == 3
        page.run("document.querySelector('#back a').click()")
        wait_until("the overview", lambda: names(page) == ["users", "stock", "orders"])
        assert not any(path.startswith("/ops/pg-status/watch") for path in proxy.requests)
        page.driver.get("about:blank")  # it would report the end of the proxy


def test_changes_are_shown_without_reloading(
    daemons: Daemons, cluster: Cluster, tmp_path: Path, page: Browser
) -> None:
    """A cluster is added, and the changed file of another is refused."""
    directory = tmp_path / "clusters"
    daemon = start_several(
        daemons, directory, {"orders": definition(cluster), "users": definition(cluster)}
    )
    page.open(daemon.url)
    wait_until("no problems", lambda: page.title == f"2 clusters ok · {NAME}")
    page.run("window.same = true")
    page.run("document.querySelector('#clusters a').focus()")

    (directory / "billing.env").write_text(f"pg_status__hosts={cluster.primary.address}:1\n")
    (directory / "users.env").write_text("pg_status__hosts=\n")
    kill(daemon.pid, signal.SIGHUP)

    wait_until("the order", lambda: names(page) == ["billing", "users", "orders"])
    wait_until("no master", lambda: page.title == f"NO MASTER: billing · {NAME}")
    assert page.texts(f"{ROWS} .health")[1:] == ["rejected", "ok"]
    assert page.texts(f"{ROWS} .synced")[1] == "2 of 2", "it is monitored as before"
    assert page.text("#service-why").endswith("refused the configuration of some clusters")
    assert page.run("return [window.same, document.activeElement.textContent]") == [True, "orders"]

    page.open(f"{daemon.url}/c/users")
    wait_until("the banner", lambda: page.title == "configuration rejected · users")
    assert page.banners[0].startswith("The configuration was rejected, and the previous one is")


@pytest.fixture
def hundred(several: Daemon, page: Browser) -> Hundred:
    """Show the overview of 100 clusters: ``with hundred("orders{}"):``."""
    overview = several.json("/overview")
    healthy, dead, invalid = overview["clusters"]

    @contextmanager
    def show(name: str = "shop{}") -> Iterator[ReverseProxy]:
        clusters: list[dict[str, Any]] = [
            {**(dead if number % 10 == 0 else healthy), "name": name.format(number)}
            for number in range(99)
        ]
        text = json.dumps({**overview, "clusters": [*clusters, invalid]})
        with reverse_proxy(several) as proxy:
            proxy.replaced["/overview"] = text.encode()
            page.open(proxy.url)
            wait_until("the clusters", lambda: len(names(page)) == 100)
            yield proxy
            page.driver.get("about:blank")  # it would report the end of the proxy

    return show


def test_a_hundred_clusters(hundred: Hundred, page: Browser) -> None:
    with hundred() as proxy:
        assert names(page)[:3] == ["shop0", "shop10", "shop20"]
        assert page.title == f"11 CLUSTERS WITH ERRORS · {NAME}"
        shown = ", ".join(f"shop{number}" for number in range(0, 100, 10))
        assert page.banners == [f"No master: {shown}.", "Configuration rejected: stock."]
        page.run("window.rows = [...document.querySelectorAll('#clusters tr')]")
        count = len(proxy.requests)
        wait_until("another overview", lambda: len(proxy.requests) > count + 1)
        same = (
            "return [...document.querySelectorAll('#clusters tr')].every((r, i) => r === rows[i])"
        )
        assert page.run(same), "unchanged rows keep their nodes"


def test_markup_in_names_is_shown_as_text(hundred: Hundred, page: Browser) -> None:
    with hundred(MARKUP + "/{}"):
        assert names(page)[0] == f"{MARKUP}/0"
        assert page.run("return [document.images.length, window.hacked]") == [0, None]
        link = page.run("return document.querySelector('#clusters a').getAttribute('href')")
        assert link.startswith("c/%3Cimg%20src")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(hundred: Hundred, page: Browser, scheme: str) -> None:
    page.prefer(color_scheme=scheme)
    with hundred():
        for width in (1280, 390):
            page.resize(width)
            assert page.violations() == []


def test_a_narrow_screen_scrolls_vertically_only(hundred: Hundred, page: Browser) -> None:
    page.resize(390)
    with hundred("a-rather-long-name-of-a-cluster-in-the-largest-region-of-all-{}"):
        width = "return document.documentElement.scrollWidth"
        assert page.run(width) <= 390
