"""What the documents link to is there."""

import re
from collections import Counter
from pathlib import Path

import pytest

from pgstatus.settings.variables import VARIABLES
from tests.support.variables_table import PAGE, with_tables

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")]


def prose(page: Path) -> str:
    """Without blocks of code: a comment of a shell looks like a heading."""
    return re.sub(r"^( *)(```+|~~~+).*?^\1\2", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them: of equal ones the later are numbered."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in re.findall(r"^#{1,6} +(.*?)(?: +#+)? *$", prose(page), re.MULTILINE):
        shown = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def is_there(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not target.exists():
        return False
    return not anchor or target.suffix != ".md" or anchor in anchors(target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)]+)", prose(page))
    assert [link for link in links if not is_there(page, link)] == []


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Some `code_word`, and more!\n## [A link](https://x.example)\n## Twice\n### Twice ##\n"
        "```sh\n# no heading\n```\n## Sync / async\n"
    )
    assert anchors(page) == {
        "some-code_word-and-more", "a-link", "twice", "twice-1", "sync--async",
    }  # fmt: skip


def test_the_tables_of_the_configuration_are_those_of_the_declaration() -> None:
    text = PAGE.read_text()
    assert text == with_tables(text), "run: python -m tests.support.variables_table"
    assert text.count("| `pg_status__") == sum(1 + (v.older is not None) for v in VARIABLES)
