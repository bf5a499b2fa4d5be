"""Parts that the tables of hosts and of clusters have in common, for a terminal of 80 columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.table import Column, Table
from rich.text import Text

from pgstatus.core.units import duration
from pgstatus.errors import in_a_line

GOOD, WARNING, BAD, QUIET = "green", "yellow", "bold red", "bright_black"
HEADING_WIDTH = 100
_MAX_LABEL = 30
"""An explanation of something with a longer name is below it, not beside it."""


def fitting(
    make: Callable[[int], RenderableType],
    count: int,
    height: int | None,
    console: Console,
    options: ConsoleOptions,
) -> RenderableType:
    """``make(n)`` with as many of ``count`` rows as the height permits, at least one."""
    while True:
        made = make(count)
        excess = len(console.render_lines(made, options)) - (height or 1000)
        if excess <= 0 or count <= 1:
            return made
        count = max(1, count - (excess + 1) // 2)


def left_out(count: int, noun: str) -> Sequence[Text]:
    """The line below a table that does not contain all rows."""
    return [Text(f"{count} more {noun}{'s' if count > 1 else ''}", QUIET)] if count else []


def title(name: str | None, instance: str | None) -> Text:
    """The name of the cluster, and of the machine that reports."""
    text = Text(name or "pg-status", "bold")
    return text.append(f"  on {instance}", QUIET) if instance else text


def both_sides(left: Text, right: Text) -> Table:
    grid = Table.grid(
        Column(overflow="fold"), Column(justify="right", overflow="fold"), expand=True
    )
    grid.add_row(left, right)
    return grid


def table() -> Table:
    """Without lines."""
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")


def details(rows: Sequence[tuple[Text, Text]]) -> Sequence[RenderableType]:
    """A label and a text in each row."""
    if any(len(label) > _MAX_LABEL for label, _ in rows):
        return [part for label, text in rows for part in (label, Padding(text, (0, 0, 0, 2)))]
    grid = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2, 0, 0))
    for row in rows:
        grid.add_row(*row)
    return [grid] if rows else []


@dataclass(frozen=True, slots=True)
class Source:
    """Where a state comes from, and how current it is."""

    url: str
    age: float = 0.0
    """Seconds since it was received."""
    lost: str | None = None
    """Why the instance is unavailable: the state is the last one, and greyed out."""

    def present(self, received: datetime) -> datetime:
        """The time of the server now, or when it was lost; ``received``: that of the state."""
        return received + timedelta(seconds=0 if self.lost else self.age)

    def shown(self, content: RenderableType) -> RenderableType:
        """The content; if it is not current, in grey below the reason."""
        if self.lost is None:
            return content
        reason = in_a_line(self.lost.removeprefix(f"no response from {self.url}: "))
        heading = Text(f"pg-status is unavailable for {duration(int(self.age))}: {reason}\n", BAD)
        return Group(heading, _Grey(content))


class _Grey:
    """Anything, without its colours."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        grey = Style.parse(QUIET)
        for segment in console.render(self._renderable, options):
            yield segment if segment.control else Segment(segment.text, grey)
