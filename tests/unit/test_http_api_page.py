"""docs/http-api.md lists the endpoints, the parameters and the fields as they are."""

import re
from pathlib import Path

from pgstatus.core.render import HostFormat, host_entry, selection
from pgstatus.core.selection import Fallback, Kind
from pgstatus.core.snapshot import Host, HostStatus

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "http-api.md").read_text()
OPENAPI = (DOCS / "openapi.yaml").read_text()
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
    return set(re.findall(r'"(/[^"{]*)"[:,]', source))


def test_every_endpoint_is_listed() -> None:
    overview = PAGE.partition("## Status codes")[0]
    listed = {path.partition("?")[0] for path in first_column(overview)}
    assert listed - {"/explain/…", "/watch/…"} == routes() - {"/explain"} | {
        f"/{kind}" for kind in Kind
    }


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


def openapi_list(after: str) -> list[str]:
    """The items of the first YAML list after a line of docs/openapi.yaml."""
    text = OPENAPI.partition(f"\n{after}\n")[2]
    (items,) = re.findall(r"\n +(?:required|enum):\n((?: +- \w+\n)+)", text)[:1]
    return re.findall(r"- (\w+)", items)


def test_the_examples_of_events_have_the_fields_that_every_event_has() -> None:
    examples = re.findall(
        r'^(?:data: )?(\{"id": .*\})$', section("Change notifications"), re.MULTILINE
    )
    (required,) = re.findall(r"^    Fresh:\n.*\n +required: \[(.*)\]", OPENAPI, re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        assert set(required.split(", ")) <= set(re.findall(r'"(\w+)": ', example))


def test_the_openapi_document_has_every_path() -> None:
    documented = set(re.findall(r"^  (/\S*):$", OPENAPI, re.MULTILINE))
    templates = {
        "/explain/{question}",
        "/watch/{question}",
        "/explain/master",
        "/watch/master",
        "/c/{cluster}",
    }
    assert templates <= documented
    assert documented - templates == routes() - {"/explain"} | {f"/{kind}" for kind in Kind}


def test_the_openapi_document_has_every_question_and_field() -> None:
    assert sorted(openapi_list("    question:")) == sorted(set(Kind) - {Kind.MASTER})
    assert sorted([*openapi_list("    HostState:"), "host"]) == sorted(host_entry(STATUS))
