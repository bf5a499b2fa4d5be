"""A copy of the web site works in any directory of a server, and as files."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.site import build_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(tmp_path_factory.mktemp("site"))


class Page(HTMLParser):
    """The references of a page: links to other pages, and files that the page loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if value and name in {"href", "src"}:
                (self.links if tag == "a" else self.loaded).append(value)


def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in site.glob("**/*.html")}


def is_file_of(site: Path, page: Path, url: str) -> bool:
    target = (page.parent / unquote(urlsplit(url).path)).resolve()
    return target.is_relative_to(site.resolve()) and target.is_file()


def test_the_links_lead_to_files_of_the_site(site: Path) -> None:
    found = pages(site)
    assert len(found) > 30
    broken = [
        (page.name, link)
        for page, content in found.items()
        for link in content.links
        if not urlsplit(link).scheme and urlsplit(link).path and not is_file_of(site, page, link)
    ]
    assert broken == []


def test_the_pages_load_files_of_the_site_only(site: Path) -> None:
    foreign = [
        (page.name, url)
        for page, content in pages(site).items()
        for url in content.loaded
        if not url.startswith("data:") and not is_file_of(site, page, url)
    ]
    assert foreign == []


def test_the_changes_are_a_page(site: Path) -> None:
    assert "Unreleased" in (site / "changelog.html").read_text()
