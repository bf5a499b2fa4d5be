"""The state of a cluster on a terminal of 80 columns: heading, table of hosts, details below it."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

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
    since,
    table,
    title,
    with_columns,
)
from pgstatus.cli.state import Entry, State, name
from pgstatus.core.units import duration, readable, size
from pgstatus.core.view import without_sources
from pgstatus.errors import in_a_line

_UNKNOWN = "-"
_COLUMNS = ("Role", "State", "Lag", "Behind", "TL", "LSN")
_OPTIONAL = ("Role", "Lag", "TL", "Behind", "LSN")
"""On a narrow terminal the last of them are left out."""
T = TypeVar("T")
Verdict = tuple[str, str]
"""Words, and their style."""


class Screen:
    """What `pg-status hosts` shows; fits into the width, and if possible into the height."""

    def __init__(self, state: State, source: Source, height: int | None = None) -> None:
        self._state = state
        self._source = source
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # The master first, then in the order of the configuration.
        hosts = sorted(self._state.hosts, key=lambda host: not host["master"])
        by_importance = sorted(hosts, key=_importance)
        important = sum(_importance(host) < _importance_of(GOOD) for host in hosts)

        def shown(count: int, explanations: Rows) -> RenderableType:
            chosen, others = by_importance[:count], by_importance[count:]
            few = [host for host in hosts if host in chosen] if others else hosts
            return self._group(few, others, explanations, options, console)

        yield fitting(
            shown,
            len(hosts),
            important,
            _explanations(self._state, by_importance if self._height else hosts),
            self._height,
            console,
            options,
        )

    def _group(
        self,
        shown: Sequence[Entry],
        hidden: Sequence[Entry],
        explanations: Rows,
        options: ConsoleOptions,
        console: Console,
    ) -> RenderableType:
        state = self._state

        def rows(columns: Sequence[str]) -> Table:
            return _table(state, shown, columns)

        names = list(map(name, shown))
        parts: list[RenderableType] = [
            Constrain(_heading(state, self._source), HEADING_WIDTH),
            Text(),
            with_columns(rows, _OPTIONAL, names, console, options),
            *left_out(map(_condition, hidden), "host"),
        ]
        if explanations:
            parts += [Text(), Explanations(explanations)]
        return self._source.shown(Group(*parts), state.now)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        hosts = self._state.hosts
        lengths = [len(name(host)) + 2 + len(_problem(host)) for host in hosts]
        width = console.measure(_table(self._state, hosts, _OPTIONAL), options=options).maximum
        return Measurement(80, max(80, width, *lengths))


def _heading(state: State, source: Source) -> RenderableType:
    return Group(
        both_sides(title(state.cluster, state.instance), Text(source.url, QUIET)),
        _master(state),
        *_upstreams(state),
        both_sides(_replicas(state), Text(f"{state.now.astimezone():%Y-%m-%d %H:%M:%S}")),
    )


def _master(state: State) -> Text:
    if not state.ready:
        # The errors of the upstreams stand in the next line.
        upstreams = [(one["name"], one["error"]) for one in state.upstreams]
        reason = without_sources(state.no_master or "", upstreams)
        return Text(f"not ready: {in_a_line(readable(reason))}", WARNING)
    text = Text()
    if state.stale:
        text.append("stale: no check has ended recently\n", BAD)
    if len(state.masters) > 1:
        text.append("split brain\n", BAD)
    if state.master is None:
        text.append("no master", BAD)
        text.append(since(state.no_master_since, state.now), BAD)
        if state.last_master is not None:
            text.append(f", previously {state.last_master}")
        return text
    text.append("master ").append(state.master, "bold green")
    return text.append(since(state.since, state.now))


def _upstreams(state: State) -> Sequence[Text]:
    """Of a relay: how many of its upstreams deliver evidence, and the errors of the others."""
    if not state.upstreams:
        return ()
    lost = [one for one in state.upstreams if one["error"] is not None]
    count = len(state.upstreams)
    text = Text("upstreams ")
    text.append(f"{count - len(lost)} of {count}", WARNING if lost else GOOD)
    errors = "; ".join(f"{one['name']} {one['error']}" for one in lost)
    return (text.append(f": {in_a_line(errors)}" if lost else " deliver evidence"),)


def _replicas(state: State) -> Text:
    if not state.ready:
        return Text()
    live = [host for host in state.hosts if host["alive"] and host["role"] == "replica"]
    count = sum(host["in_sync"] for host in live)
    style = GOOD if count == len(live) > 0 else WARNING if count else BAD
    text = Text("replicas in sync ")
    return text.append(f"{count} of {len(live)}", style).append(" live")


def _importance(host: Entry) -> int:
    """If the screen is too small: the master, the worst problems, the others."""
    return 0 if host["master"] else _importance_of(_condition(host)[1])


def _importance_of(style: str) -> int:
    return {BAD: 1, WARNING: 2}.get(style, 3)


def _table(state: State, hosts: Sequence[Entry], columns: Sequence[str]) -> Table:
    rows = table()
    rows.add_column("Host", overflow="fold")
    shown = [heading for heading in _COLUMNS if heading in columns or heading not in _OPTIONAL]
    for heading in shown:
        justify: Literal["left", "right"] = "left" if heading in ("Role", "State") else "right"
        rows.add_column(heading, justify=justify, no_wrap=True)
    for host in hosts:
        is_master = host["master"]
        cells = {
            "Role": Text(*_role(state, host)),
            "State": Text(*_condition(host)),
            "Lag": _or_unknown(host["lag_ms"], lambda ms: duration(ms / 1000), empty=is_master),
            "Behind": _or_unknown(host["lag_bytes"], size, empty=is_master),
            "TL": _or_unknown(host["timeline"], lambda timeline: in_a_line(str(timeline))),
            "LSN": _or_unknown(host["lsn"], in_a_line),
        }
        rows.add_row(name(host), *(cells[heading] for heading in shown))
    return rows


def _or_unknown(value: T | None, form: Callable[[T], str], *, empty: bool = False) -> Text:
    return Text("" if empty else _UNKNOWN if value is None else form(value))


def _role(state: State, host: Entry) -> Verdict:
    if host["master"]:
        return "master", "bold green"
    if name(host) == state.former_master:
        return "former master", BAD
    if host["role"] == "master":
        return ("second master" if state.master else "master"), BAD
    return (_UNKNOWN if host["role"] == "unknown" else in_a_line(host["role"])), ""


def _condition(host: Entry) -> Verdict:
    if not host["alive"]:
        return ("dead", BAD) if host["error"] else ("unknown", WARNING)
    if host["possible_dead"]:
        return ("down" if host.get("down") else "possibly dead"), WARNING
    if host["role"] == "master" and not host["master"]:
        return "not the master", BAD
    if host.get("admits") is False:
        return "refuses logins", WARNING
    if host["master"]:
        return "alive", GOOD
    return ("in sync", GOOD) if host["in_sync"] else ("not in sync", WARNING)


def _problem(host: Entry) -> str:
    refusal = host.get("refusal") and f"does not accept new sessions: {host['refusal']}"
    # The cause, and then what follows from it. That the host is dead stands in the table.
    reason = host["reason"] and host["reason"].removeprefix("dead: ")
    texts = (host["error"], refusal, reason)
    return in_a_line(readable("; ".join(text for text in texts if text)))


def _explanations(state: State, hosts: Sequence[Entry]) -> Rows:
    rows: list[Sequence[Text]] = []
    if state.ready and state.no_master:
        rows.append((Text("no master", BAD), Text(in_a_line(readable(state.no_master)))))
    if len(state.masters) > 1:
        masters = " and ".join(map(in_a_line, state.masters))
        rows.append((Text("split brain", BAD), Text(f"{masters} are primaries")))
    rows += [
        (Text(name(host), _condition(host)[1]), Text(text))
        for host in hosts
        if (text := _problem(host))
    ]
    return rows
