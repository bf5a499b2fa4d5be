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
    Explanations,
    Rows,
    Source,
    both_sides,
    fitting,
    left_out,
    table,
    title,
    with_columns,
)
from pgstatus.cli.state import Clusters, Entry
from pgstatus.core.units import duration, readable
from pgstatus.errors import in_a_line

_STYLES = {"ok": GOOD, "warning": WARNING, "error": BAD}
_OPTIONAL = ("In sync", "Since")
"""On a narrow terminal the last of them are left out."""
_HINT = "pg-status hosts --cluster NAME shows the hosts of a cluster."


class ClustersScreen:
    """What `pg-status clusters` shows; the arguments are those of `table.Screen`."""

    def __init__(self, state: Clusters, source: Source, height: int | None = None) -> None:
        self._state = state
        self._source = source
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        clusters = sorted(self._state.clusters, key=_rank)

        def shown(count: int, explanations: Rows) -> RenderableType:
            return self._group(clusters[:count], clusters[count:], explanations, console, options)

        yield fitting(
            shown,
            len(clusters),
            sum(one["level"] != "ok" for one in clusters),
            [
                (Text(_name(one), _style(one)), Text(text))
                for one in clusters
                if (text := _explanation(one))
            ],
            self._height,
            console,
            options,
        )

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        clusters = self._state.clusters
        rows = _table(clusters, self._state.now, _OPTIONAL)
        width = console.measure(rows, options=options).maximum
        lengths = [len(_name(one)) + 2 + len(_explanation(one)) for one in clusters]
        return Measurement(80, max(80, width, *lengths, 0))

    def _group(
        self,
        shown: Sequence[Entry],
        hidden: Sequence[Entry],
        explanations: Rows,
        console: Console,
        options: ConsoleOptions,
    ) -> RenderableType:
        state, now = self._state, self._state.now

        def rows(columns: Sequence[str]) -> Table:
            return _table(shown, now, columns)

        heading = Group(
            both_sides(title(None, state.instance), Text(self._source.url, QUIET)),
            both_sides(_summary(state.clusters), Text(f"{now.astimezone():%Y-%m-%d %H:%M:%S}")),
        )
        names = [max(_name(one), _master(one), key=len) for one in shown]
        parts: list[RenderableType] = [
            Constrain(heading, HEADING_WIDTH),
            Text(),
            with_columns(rows, _OPTIONAL, names, console, options),
            *left_out(((_state(one), _style(one)) for one in hidden), "cluster"),
        ]
        if explanations:
            parts += [Text(), Explanations(explanations)]
        if any(one["name"] for one in state.clusters):
            parts += [Text(), Text(_HINT, QUIET)]
        return self._source.shown(Group(*parts), now)


def _table(clusters: Sequence[Entry], now: datetime, columns: Sequence[str]) -> Table:
    rows = table()
    rows.add_column("Cluster", overflow="fold")
    rows.add_column("State", overflow="fold")
    rows.add_column("Master", overflow="fold")
    shown = [heading for heading in ("Since", "In sync") if heading in columns]
    for heading in shown:
        rows.add_column(heading, no_wrap=True)
    for one in clusters:
        cells = {
            "Since": _since(one, now),
            "In sync": in_a_line(f"{one['replicas_in_sync']} of {one['replicas']}"),
        }
        rows.add_row(
            _name(one),
            Text(_state(one), _style(one)),
            _master(one),
            *(cells[heading] for heading in shown),
        )
    return rows


def _state(cluster: Entry) -> str:
    return in_a_line(str(cluster["state"]))


def _master(cluster: Entry) -> str:
    return in_a_line(cluster["master"] or "-")


def _name(cluster: Entry) -> str:
    return in_a_line(cluster["name"] or "-")


def _style(cluster: Entry) -> str:
    return _STYLES.get(cluster["level"], BAD)


def _rank(cluster: Entry) -> int:
    """Errors, warnings, and the others, each in the order of the configuration."""
    return {"ok": 2, "warning": 1}.get(cluster["level"], 0)


def _since(cluster: Entry, now: datetime) -> str:
    """Since when it has this master, or none."""
    at = cluster["master_since"] if cluster["master"] else cluster.get("no_master_since")
    if at is None:
        return "before the start" if cluster["master"] or cluster["ready"] else "-"
    seconds = (now - datetime.fromisoformat(at)).total_seconds()
    return f"{duration(max(0, int(seconds)))} ago"


def _summary(clusters: Sequence[Entry]) -> Text:
    count = len(clusters)
    masters = sum(one["master"] is not None for one in clusters)
    levels = [one["level"] for one in clusters]
    problems = [
        Text(f"{number} {level}{'s' if number > 1 else ''}", style)
        for level, style in (("error", BAD), ("warning", WARNING))
        if (number := levels.count(level))
    ]
    text = Text.assemble((f"{masters} of {count}", GOOD if masters == count else BAD))
    text.append(f" cluster{'s' if count != 1 else ''} with a master, ")
    return text.append(Text(", ").join(problems or [Text("no problems")]))


def _explanation(cluster: Entry) -> str:
    """What the table does not contain."""
    masters = cluster["masters"]
    second = f"{' and '.join(masters)} are primaries" if len(masters) > 1 else None
    reason = cluster["no_master"]
    prefix = f"cluster {cluster['name']}: "  # it stands beside the name
    error = cluster["error"] and cluster["error"].removeprefix(prefix).replace(f"; {prefix}", "; ")
    texts = (reason, second, error)
    return in_a_line(readable("; ".join(text for text in texts if text)))
