"""The documentation as a web site: opened as files, it loads nothing from other servers."""

from pathlib import Path
from urllib.parse import urlparse

import pytest
from selenium.webdriver.common.action_chains import ActionChains

from tests.support.browser import Browser, chromium_of_module, needs_chromium, page_in_chromium
from tests.support.site import build_site
from tests.support.waiting import wait_until

__all__ = ["chromium_of_module", "page_in_chromium"]
pytestmark = needs_chromium

# The search is in a tree of its own.
_TEXT_OF_SEARCH = """
    return [...document.querySelectorAll("body > div")]
      .map((node) => node.shadowRoot?.textContent ?? "").join(" ")"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(tmp_path_factory.mktemp("site"))


def requested(page: Browser) -> set[str]:
    """The protocols of all requests."""
    urls = (
        event["params"]["request"]["url"]
        for event in page.network()
        if event["method"] == "Network.requestWillBeSent"
    )
    return {urlparse(url).scheme for url in urls}


def test_the_search_works_without_a_server(site: Path, page: Browser) -> None:
    page.network()
    page.driver.get(f"file://{site}/concepts.html")
    page.run("document.querySelector('.md-search__button').click()")
    ActionChains(page.driver).send_keys("system identifier").perform()

    def results() -> bool:
        return "Failover and lag" in page.run(_TEXT_OF_SEARCH)

    wait_until("search results", results)
    assert requested(page) <= {"file", "data", "blob"}


def test_all_images_are_shown(site: Path, page: Browser) -> None:
    for name in ("index", "concepts", "status-page"):
        page.driver.get(f"file://{site}/{name}.html")
        broken = "return [...document.images].filter((i) => !i.naturalWidth).map((i) => i.src)"
        assert page.run(broken) == []
        assert page.run("return document.images.length") > 0
