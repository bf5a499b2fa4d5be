"""All clusters of an instance on a terminal of 80 columns, those with problems first."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pgstatus.cli.layout import (
    BAD,
    GOOD,
    HEADING_WIDTH,
    QUIET,
    WARNING,
    Source,
    both_sides,
    details,
    fitting,
    left_out,
    table,
    title,
)
from pgstatus.cli.state import Clusters, Entry
from pgstatus.core.units import duration, readable
from pgstatus.errors import in_a_line

_STYLES = {"ok": GOOD, "warning": WARNING, "error": BAD}
_SHARE = 6
"""Of the lines of a screen, one of so many is for explanations; the table is more important."""
_HINT = "pg-status hosts --cluster NAME shows the hosts of a cluster."


class ClustersScreen:
    """What `pg-status clusters` shows; the arguments are those of `table.Screen`."""

    def __init__(self, state: Clusters, source: Source, height: int | None = None) -> None:
        self._state = state
        self._source = source
        self._height = height
        self._now = source.present(state.now)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        clusters = sorted(self._state.clusters, key=_rank)

        def shown(count: int) -> RenderableType:
            return self._group(clusters[:count], len(clusters) - count)

        yield fitting(shown, len(clusters), self._height, console, options)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        clusters = self._state.clusters
        width = console.measure(_table(clusters, self._now), options=options).maximum
        lengths = [len(_name(one)) + 2 + len(_explanation(one)) for one in clusters]
        return Measurement(80, max(80, width, *lengths, 0))

    def _group(self, shown: Sequence[Entry], hidden: int) -> RenderableType:
        state, now = self._state, self._now.astimezone()
        heading = Group(
            both_sides(title(None, state.instance), Text(self._source.url, QUIET)),
            both_sides(_summary(state.clusters), Text(f"{now:%Y-%m-%d %H:%M:%S}")),
        )
        rows = [
            (Text(_name(one), _style(one)), self._limited(text))
            for one in shown
            if (text := _explanation(one))
        ]
        if self._height is not None:
            rows = rows[: max(1, self._height // _SHARE)]
        parts: list[RenderableType] = [
            Constrain(heading, HEADING_WIDTH),
            Text(),
            _table(shown, now),
            *left_out(hidden, "cluster"),
            *([Text(), *details(rows)] if rows else []),
            Text(),
            Text(_HINT, QUIET),
        ]
        return self._source.shown(Group(*parts))

    def _limited(self, explanation: str) -> Text:
        """One line on a screen, so that more clusters fit on it."""
        if self._height is None:
            return Text(explanation)
        return Text(explanation, no_wrap=True, overflow="ellipsis")


def _table(clusters: Sequence[Entry], now: datetime) -> Table:
    rows = table()
    for heading in ("Cluster", "State", "Master"):
        rows.add_column(heading, overflow="fold")
    rows.add_column("Since", no_wrap=True)
    rows.add_column("In sync", no_wrap=True)
    for one in clusters:
        rows.add_row(
            _name(one),
            Text(in_a_line(str(one["state"])), _style(one)),
            in_a_line(one["master"] or "-"),
            _since(one, now),
            f"{one['replicas_in_sync']} of {one['replicas']}",
        )
    return rows


def _name(cluster: Entry) -> str:
    return in_a_line(cluster["name"] or "-")


def _style(cluster: Entry) -> str:
    return _STYLES.get(cluster["level"], BAD)


def _rank(cluster: Entry) -> int:
    """Errors, warnings, and the others, each in the order of the configuration."""
    return {"ok": 2, "warning": 1}.get(cluster["level"], 0)


def _since(cluster: Entry, now: datetime) -> str:
    if cluster["master"] is None or cluster["master_since"] is None:
        return "-"
    seconds = (now - datetime.fromisoformat(cluster["master_since"])).total_seconds()
    return f"{duration(max(0, int(seconds)))} ago"


def _summary(clusters: Sequence[Entry]) -> Text:
    count = len(clusters)
    masters = sum(one["master"] is not None for one in clusters)
    problems = sum(one["level"] != "ok" for one in clusters)
    text = Text.assemble((f"{masters} of {count}", GOOD if masters == count else BAD))
    text.append(f" cluster{'s' if count != 1 else ''} with a master, ")
    return text.append(f"{problems or 'none'} with problems", WARNING if problems else "")


def _explanation(cluster: Entry) -> str:
    """What the table does not contain."""
    masters = cluster["masters"]
    second = f"{' and '.join(masters)} accept writes" if len(masters) > 1 else None
    reason = cluster["no_master"] if cluster["ready"] else None
    texts = (reason, second, cluster["error"])
    return in_a_line(readable("; ".join(text for text in texts if text)))
