"""What the page's file may contain, read without a browser."""

import re
from pathlib import Path

import pytest

from pgstatus import api

PAGE = Path(api.__file__).with_name("page.html").read_text("utf-8")


@pytest.mark.parametrize("tag", ["style", "script"])
def test_there_is_one_inline_element_for_the_one_hash(tag: str) -> None:
    assert re.findall(rf"<{tag}\b[^>]*>", PAGE) == [f"<{tag}>"]


def test_nothing_is_loaded_from_elsewhere() -> None:
    assert set(re.findall(r"\w+://[^\s\"']*", PAGE)) == {"http://www.w3.org/2000/svg"}
    addresses = re.findall(r"""(?:href=|src=|URL\()"([^"]*)\"""", PAGE)
    assert set(addresses) == {"data:,", "overview", "hosts"}, "relative: a path may be before them"


def test_nothing_needs_what_the_policy_forbids() -> None:
    """Inline styles and handlers, and texts that become markup."""
    markup = re.sub(r"<(style|script)>.*?</\1>", "", PAGE, flags=re.DOTALL)
    assert re.findall(r"\s(style|on\w+)=", markup) == []
    assert re.findall(r"(inner|outer)HTML|insertAdjacentHTML|document\.write|eval\(", PAGE) == []
