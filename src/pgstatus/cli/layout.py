"""Parts that the tables of hosts and of clusters have in common, for a terminal of 80 columns."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.table import Column, Table
from rich.text import Text

from pgstatus.core.units import duration
from pgstatus.errors import in_a_line

GOOD, WARNING, BAD, QUIET = "green", "yellow", "bold red", "bright_black"
HEADING_WIDTH = 100
_SHARE = 6
"""If a screen is too small, one of so many lines is for explanations: problems come first."""
_NAME_WIDTH = 24
"""A longer name may be broken."""
_TEXT_WIDTH = 40
"""An explanation with less room than this is below its label, not beside it."""

Rows = Sequence[Sequence[Text]]
"""Labels, and a text at the end of each row."""


def fitting(
    make: Callable[[int, Rows], RenderableType],
    count: int,
    important: int,
    explanations: Rows,
    height: int | None,
    console: Console,
    options: ConsoleOptions,
) -> RenderableType:
    """``make(n, explanations)`` with as many of ``count`` rows as the height permits, at least one.

    The ``important`` ones are first. The explanations are shortened to a line each before an
    important row is left out, and left out before that, down to their share of the height; other
    rows use what remains.
    """

    def is_too_high(rows: int, explained: Rows) -> bool:
        lines = console.render_lines(make(rows, explained), options)
        return height is not None and len(lines) > height

    if height is None or (count < height and not is_too_high(count, explanations)):
        return make(count, explanations)

    def most(least: int, limit: int, is_too_many: Callable[[int], bool]) -> int:
        found = bisect_left(range(least, limit + 1), True, key=is_too_many)
        return max(least, least + found - 1)

    short = [[*labels, _in_one_line(text)] for *labels, text in explanations]
    few = min(len(short), max(1, height // _SHARE))
    rows = most(1, min(important, height), lambda n: is_too_high(n, short[:few]))
    if rows == important:
        few = most(few, len(short), lambda n: is_too_high(rows, short[:n]))
    rows = most(rows, min(count, height), lambda n: is_too_high(n, short[:few]))
    return make(rows, short[:few])


def _in_one_line(text: Text) -> Text:
    return Text(text.plain, text.style, no_wrap=True, overflow="ellipsis")


def left_out(states: Iterable[tuple[str, str]], noun: str) -> Sequence[Text]:
    """The line below a table that does not contain all rows: their number and, of those with
    problems, their states.
    """
    counted = Counter(states)
    count = counted.total()
    if not count:
        return []
    line = Text(f"{count} more {noun}{'s' if count > 1 else ''}", QUIET)
    for (state, style), number in counted.items():
        if style != GOOD:
            line.append(", ").append(f"{number} {state}", style)
    return [line]


def title(name: str | None, instance: str | None) -> Text:
    """The name of the cluster, and of the machine that reports."""
    text = Text(name or "pg-status", "bold")
    return text.append(f"  on {instance}", QUIET) if instance else text


def since(at: datetime | None, now: datetime) -> str:
    """`` since 23:35:15 (5 s)``, with the date if it is long ago; None: it is not known."""
    if at is None:
        return " since before the start of pg-status"
    seconds = max(0, int((now - at).total_seconds()))
    form = "%H:%M:%S" if seconds < 86_400 else "%Y-%m-%d %H:%M"
    return f" since {at.astimezone().strftime(form)} ({duration(seconds)})"


def both_sides(left: Text, right: Text) -> Table:
    grid = Table.grid(
        Column(overflow="fold"), Column(justify="right", overflow="fold"), expand=True
    )
    grid.add_row(left, right)
    return grid


def table() -> Table:
    """Without lines."""
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")


def with_columns(
    make: Callable[[Sequence[str]], Table],
    columns: Sequence[str],
    names: Sequence[str],
    console: Console,
    options: ConsoleOptions,
) -> Table:
    """``make(columns)`` with as many of the columns as the width permits; the last is the least
    important. ``names`` are the cells of the column that may be broken, which is better than to
    leave out more than two columns.
    """
    excess = max(0, max(map(len, names), default=0) - _NAME_WIDTH)
    tables = [make(columns[:number]) for number in range(len(columns), -1, -1)]
    wide = options.update(width=1000)
    widths = [console.measure(one, options=wide).maximum for one in tables]
    needed = [*widths[:3], *(width - excess for width in widths)]
    choices = zip([*tables[:3], *tables], needed, strict=True)
    return next((one for one, width in choices if width <= options.max_width), tables[-1])


class Explanations:
    """Labels and a text in each row: beside each other, or the text below if it has little room."""

    def __init__(self, rows: Rows, padding: int = 2) -> None:
        self._rows = rows
        self._padding = padding

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        grid = self._grid()
        longest = max((len(text) for *_, text in self._rows), default=0)
        width = console.measure(grid, options=options.update(width=10_000)).maximum
        if options.max_width - (width - longest) >= min(longest, _TEXT_WIDTH):
            yield grid
            return
        for *labels, text in self._rows:
            yield Text(" " * self._padding).join(labels)
            yield Padding(text, (0, 0, 0, 2))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self._grid())

    def _grid(self) -> Table:
        labels = max((len(row) - 1 for row in self._rows), default=0)
        columns = [Column(no_wrap=True) for _ in range(labels)]
        grid = Table.grid(*columns, Column(overflow="fold"), padding=(0, self._padding, 0, 0))
        for row in self._rows:
            grid.add_row(*row)
        return grid


@dataclass(frozen=True, slots=True)
class Source:
    """Where a state comes from, and whether it is current."""

    url: str
    lost: str | None = None
    """Why the instance is unavailable: the state is the last one, and greyed out."""
    age: float = 0.0
    """Seconds for which it has been unavailable."""

    def shown(self, content: RenderableType, at: datetime) -> RenderableType:
        """The content; if it is not current, in grey below the reason. ``at``: its time."""
        if self.lost is None:
            return content
        reason = in_a_line(self.lost.removeprefix(f"no response from {self.url}: "))
        when = f"{at.astimezone():%H:%M:%S} ({duration(int(self.age))})"
        return Group(
            Text(f"pg-status is unavailable since {when}: {reason}\n", BAD), _Grey(content)
        )


class _Grey:
    """Anything, without its colours."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        grey = Style.parse(QUIET)
        for segment in console.render(self._renderable, options):
            yield segment if segment.control else Segment(segment.text, grey)
