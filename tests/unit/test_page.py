"""Constraints on the file of the status page, checked without a browser."""

import re
from pathlib import Path

import pytest

from pgstatus import api

PAGE = Path(api.__file__).with_name("page.html").read_text("utf-8")


@pytest.mark.parametrize("tag", ["style", "script"])
def test_there_is_exactly_one_inline_element(tag: str) -> None:
    assert re.findall(rf"<{tag}\b[^>]*>", PAGE) == [f"<{tag}>"]


def test_no_other_resource_is_loaded() -> None:
    assert set(re.findall(r"\w+://[^\s\"']*", PAGE)) == {"http://www.w3.org/2000/svg"}
    addresses = re.findall(r"""(?:href=|src=|URL\()"([^"]*)\"""", PAGE)
    assert set(addresses) == {
        "data:,",
        "overview",
        "hosts",
        "clusters",
        "metrics",
        "watch",
        "../../",
    }, (  # fmt: skip
        "relative, because a proxy may add a path"
    )


def test_the_page_contains_nothing_that_the_policy_forbids() -> None:
    """Inline styles, inline event handlers, and conversion of text to markup."""
    markup = re.sub(r"<(style|script)>.*?</\1>", "", PAGE, flags=re.DOTALL)
    assert re.findall(r"\s(style|on\w+)=", markup) == []
    assert re.findall(r"(inner|outer)HTML|insertAdjacentHTML|document\.write|eval\(", PAGE) == []
