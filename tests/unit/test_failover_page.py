"""docs/failover.md and docs/troubleshooting.md quote messages as the source contains them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/failover.md").read_text()
# The source with a placeholder for each value, and without the breaks between parts of a string.
SOURCE = re.sub(
    r"\{[^{}]*\}",
    "{}",
    re.sub(
        r'"\s*\n\s*f?"',
        "",
        "\n".join(path.read_text() for path in (ROOT / "src/pgstatus").rglob("*.py")),
    ),
)


def quoted() -> list[str]:
    """The reasons in the table of symptoms, without the names of fields and paths."""
    table = PAGE.partition("## Symptoms")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
    found = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    return [text for text in found if " " in text]


def template(text: str) -> str:
    """The text with a placeholder for each host and number."""
    text = text.removesuffix(" …").removesuffix(":")
    text = re.sub(r"pg\d:5432 and pg\d:5432|pg\d:5432|\b\d+\b", "{}", text)
    # Values that are not numbers: a unit, a plural, an alternative.
    text = text.removeprefix("{} is ").replace("{} ms", "{} {}")
    return text.replace("checks in", "check{} in").replace("(master's timeline", "({}")


@pytest.mark.parametrize("text", quoted())
def test_a_quoted_reason_is_one_of_the_source(text: str) -> None:
    assert template(text) in SOURCE


def test_there_are_quotations() -> None:
    assert len(quoted()) > 10


def test_an_action_does_not_refer_to_another_row() -> None:
    """Rows are inserted between them."""
    table = PAGE.partition("## Symptoms")[2].partition("\n## ")[0]
    actions = re.findall(r"\| ([^|]*) \|$", table, re.MULTILINE)
    assert len(actions) > 10
    assert not [text for text in actions if "above" in text]


def test_the_page_of_procedures_has_the_name_by_which_it_is_linked() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    links = re.findall(r"\[([^]]+)\]\(operations\.md\)", (ROOT / "docs/index.md").read_text())
    assert [page.partition("\n")[0]] == [f"# {name}" for name in links]
    # It quotes the end of a reason.
    (reason,) = re.findall(r"`reason` of the host ends with `([^`]+)`", page)
    assert reason in SOURCE


TROUBLESHOOTING = (ROOT / "docs/troubleshooting.md").read_text()
_VALUE = re.compile(r"…|exit status \d+|\d+(?:\.\d+)?|\(.*?\)|Too many open files|monitoring")
_OF_OTHERS = {"Too many open files", "Out of memory: Killed process"}


def messages() -> list[str]:
    """The log messages in the table about pg-status itself, without values."""
    section = TROUBLESHOOTING.partition("## It stops")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
    quoted = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    return [text for text in quoted if " " in text and text not in _OF_OTHERS]


@pytest.mark.parametrize("text", messages())
def test_a_quoted_message_is_one_of_the_source(text: str) -> None:
    """The text between the values: numbers, reasons in parentheses, and what is omitted."""
    parts = _VALUE.split(text.removesuffix(": …"))
    assert re.search(".{1,8}".join(map(re.escape, parts)), SOURCE)


def test_there_are_messages() -> None:
    assert len(messages()) > 7
