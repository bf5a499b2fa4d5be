"""docs/http-api.md lists the endpoints, the parameters and the fields as they are."""

import re
from pathlib import Path

from pgstatus.core.render import HostFormat, host_entry, selection
from pgstatus.core.selection import Fallback, Kind
from pgstatus.core.snapshot import Host, HostStatus

PAGE = (Path(__file__).parents[2] / "docs/http-api.md").read_text()
STATUS = HostStatus(Host("pg1", 5432))


def section(title: str) -> str:
    """The text below a heading, without the sections below other headings of any level."""
    (text,) = re.findall(rf"^##+ {title}\n(.*?)(?=^#|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return str(text)


def first_column(text: str) -> list[str]:
    """The words in backquotes in the first column of all tables."""
    rows = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


def routes() -> set[str]:
    source = (Path(__file__).parents[2] / "src/pgstatus/api/app.py").read_text()
    return set(re.findall(r'add_route\("([^"]+)"', source))


def test_every_endpoint_is_listed() -> None:
    overview = PAGE.partition("## Status codes")[0]
    listed = {path.partition("?")[0] for path in first_column(overview)}
    assert listed - {"/explain/…", "/watch/…"} == routes() - {"/explain"} | {f"/{kind}" for kind in Kind}


def test_the_fields_of_a_host() -> None:
    fields = [f for f in first_column(section("State of the hosts")) if not f.startswith("/")]
    assert sorted(fields) == sorted(host_entry(STATUS))


def test_the_fields_of_a_selection() -> None:
    answer = {**selection(STATUS, None, stale=True), **selection(None, "no master")}
    assert sorted(first_column(section("Response"))) == sorted(answer)


def test_the_example_of_a_selection_has_its_fields_in_order() -> None:
    (example,) = re.findall(r'^\{"host": .*\}$', section("Response"), re.MULTILINE)
    assert re.findall(r'"(\w+)": ', example) == list(selection(STATUS, None))


def test_the_values_of_the_parameters() -> None:
    parameters = section("Parameters")
    for name, values in (("fallback", Fallback), ("format", HostFormat)):
        (row,) = re.findall(rf"^\| `{name}` \| (.*?) \|", parameters, re.MULTILINE)
        assert sorted(re.findall(r"`(\w+)`", row)) == sorted(values)
