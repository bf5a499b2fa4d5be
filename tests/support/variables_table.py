"""The tables of docs/configuration.md, generated from the declaration of the variables.

``python -m tests.support.variables_table`` writes them into the page.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pgstatus.settings.variables import PREFIX, SLEEP, VARIABLES, Variable

PAGE = Path(__file__).parents[2] / "docs/configuration.md"


def with_tables(page: str) -> str:
    """The page with current tables: each stands below a line ``<!-- variables: GROUP -->``."""
    return re.sub(
        r"(<!-- variables: (\w+) -->\n\n)(?:\|.*\n)*\n*",
        lambda match: f"{match[1]}{table(match[2])}\n",
        page,
    )


def table(group: str) -> str:
    rows = [row for v in VARIABLES if v.group == group for row in _rows(v)]
    head = ["| variable | default | meaning |", "| --- | --- | --- |"]
    return "".join(f"{line}\n" for line in head + rows)


def default_text(variable: Variable[object]) -> str:
    """The default as it is written in a file of variables; empty if there is none."""
    default = variable.default
    if default is None:
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)


def _rows(variable: Variable[object]) -> Iterator[str]:
    default = default_text(variable)
    shown = variable.shown_default or (f"`{default}`" if default else "none")
    restart = " Requires a restart." if variable.restart else ""
    yield f"| `{variable.full_name}` | {shown} | {variable.description}{restart} |"
    if variable.older is not None:
        older = f"The name of `{variable.name}` in the C service 1.0."
        yield f"| `{PREFIX}{variable.older}` | none | {older} |"


def offered() -> list[Variable[object]]:
    """The variables under their current names."""
    return [variable for variable in VARIABLES if variable is not SLEEP]


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
