"""The state of a cluster on a terminal of 80 columns: heading, table of hosts, details below it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

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
from pgstatus.cli.state import Entry, State, name
from pgstatus.core.units import duration, readable, size
from pgstatus.errors import in_a_line

_UNKNOWN = "-"
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
        hosts = _in_order(self._state)

        def shown(count: int) -> RenderableType:
            few = _most_important(hosts, count)
            return self._group(few, len(hosts) - count, options, console)

        yield fitting(shown, len(hosts), self._height, console, options)

    def _group(
        self, shown: Sequence[Entry], hidden: int, options: ConsoleOptions, console: Console
    ) -> RenderableType:
        state = self._state
        parts: list[RenderableType] = [
            Constrain(_heading(state, self._source), HEADING_WIDTH),
            Text(),
            _fitting(state, shown, console, options),
            *left_out(hidden, "host"),
        ]
        explanations = _details(state, shown)
        if explanations:
            parts += [Text(), *explanations]
        return self._source.shown(Group(*parts))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        hosts = self._state.hosts
        lengths = [len(name(host)) + 2 + len(_problem(host)) for host in hosts]
        width = console.measure(_table(self._state, hosts, {"LSN"}), options=options).maximum
        return Measurement(80, max(80, width, *lengths))


def _heading(state: State, source: Source) -> RenderableType:
    now = source.present(state.now).astimezone()
    return Group(
        both_sides(title(state.cluster, state.instance), Text(source.url, QUIET)),
        _master(state, now),
        both_sides(_replicas(state), Text(f"{now:%Y-%m-%d %H:%M:%S}")),
    )


def _master(state: State, now: datetime) -> Text:
    if not state.ready:
        return Text(f"not ready: {state.no_master}", WARNING)
    text = Text()
    if state.stale:
        text.append("stale: no check has ended recently\n", BAD)
    if len(state.masters) > 1:
        text.append("split brain\n", BAD)
    if state.master is None:
        return text.append("no master", BAD)
    text.append("master ").append(state.master, "bold green")
    if state.since is not None:
        since = state.since.astimezone()
        seconds = max(0, int((now - since).total_seconds()))
        form = "%H:%M:%S" if seconds < 86_400 else "%Y-%m-%d %H:%M"
        text.append(f" since {since.strftime(form)} ({duration(seconds)})")
    return text


def _replicas(state: State) -> Text:
    if not state.ready:
        return Text()
    live = [host for host in state.hosts if host["alive"] and host["role"] == "replica"]
    count = sum(host["in_sync"] for host in live)
    style = GOOD if count == len(live) > 0 else WARNING if count else BAD
    text = Text("replicas in sync ")
    return text.append(f"{count} of {len(live)}", style).append(" live")


def _in_order(state: State) -> Sequence[Entry]:
    """The master first, then in the order of the configuration."""
    return sorted(state.hosts, key=lambda host: not host["master"])


def _most_important(hosts: Sequence[Entry], count: int) -> Sequence[Entry]:
    """At most ``count`` hosts: the master, those with a problem, then the others."""
    if len(hosts) <= count:
        return hosts
    chosen = sorted(hosts, key=lambda h: (not h["master"], _condition(h)[1] == GOOD))[:count]
    return [host for host in hosts if host in chosen]


def _fitting(
    state: State, hosts: Sequence[Entry], console: Console, options: ConsoleOptions
) -> Table:
    """The table with as many columns as the width permits."""
    wide = _table(state, hosts, {"LSN"})
    if console.measure(wide, options=options.update(width=1000)).maximum <= options.max_width:
        return wide
    return _table(state, hosts, set())


def _table(state: State, hosts: Sequence[Entry], optional: set[str]) -> Table:
    rows = table()
    rows.add_column("Host", overflow="fold")
    for heading in ("Role", "State"):
        rows.add_column(heading, no_wrap=True)
    for heading in ("Lag", "Behind", "TL", *sorted(optional)):
        rows.add_column(heading, justify="right", no_wrap=True)
    for host in hosts:
        words, style = _condition(host)
        figures = [
            _or_unknown(host["lag_ms"], lambda ms: duration(ms / 1000)),
            _or_unknown(host["lag_bytes"], size),
            _or_unknown(host["timeline"], str),
            *(_or_unknown(host["lsn"], str) for _ in optional),
        ]
        if host["master"]:
            figures[:2] = ["", ""]
        rows.add_row(name(host), Text(*_role(state, host)), Text(words, style), *map(Text, figures))
    return rows


def _or_unknown(value: T | None, form: Callable[[T], str]) -> str:
    return _UNKNOWN if value is None else form(value)


def _role(state: State, host: Entry) -> Verdict:
    if host["master"]:
        return "master", "bold green"
    if name(host) == state.former_master:
        return "former master", BAD
    if host["role"] == "master":
        return ("second master" if state.master else "master"), BAD
    return (_UNKNOWN if host["role"] == "unknown" else host["role"]), ""


def _condition(host: Entry) -> Verdict:
    if not host["alive"]:
        return ("dead", BAD) if host["error"] else ("unknown", WARNING)
    if host["possible_dead"]:
        return "possibly dead", WARNING
    if host["role"] == "master" and not host["master"]:
        return "not used", BAD
    if host.get("admits") is False:
        return "refuses logins", WARNING
    if host["master"]:
        return "alive", GOOD
    return ("in sync", GOOD) if host["in_sync"] else ("not in sync", WARNING)


def _problem(host: Entry) -> str:
    refusal = host.get("refusal") and f"does not accept new sessions: {host['refusal']}"
    texts = (host["reason"], host["error"], refusal)
    return in_a_line(readable("; ".join(text for text in texts if text)))


def _details(state: State, hosts: Sequence[Entry]) -> Sequence[RenderableType]:
    rows: list[tuple[Text, Text]] = []
    if state.ready and state.no_master:
        rows.append((Text("no master", BAD), Text(in_a_line(readable(state.no_master)))))
    if len(state.masters) > 1:
        masters = " and ".join(map(in_a_line, state.masters))
        rows.append((Text("split brain", BAD), Text(f"{masters} accept writes")))
    rows += [
        (Text(name(host), _condition(host)[1]), Text(text))
        for host in hosts
        if (text := _problem(host))
    ]
    return details(rows)
