"""``pg-status hosts``, ``clusters`` and ``explain``: the state of a running instance, for people.

``hosts`` shows all clusters if there are several and none is chosen: after an alarm the first
question is which of them is affected.

Exit status: 0 a host is selected, 3 no host is, 1 the instance cannot be reached. An unusable
configuration has status 78 in all commands.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import get_close_matches
from typing import TextIO
from urllib.parse import parse_qs, quote, urlsplit

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from pgstatus.cli import terminal
from pgstatus.cli.clusters import ClustersScreen
from pgstatus.cli.follow import Fetch, Follower, Lost, Unchanged
from pgstatus.cli.layout import BAD, GOOD, Explanations, Source
from pgstatus.cli.remote import Instance
from pgstatus.cli.state import (
    Clusters,
    Entry,
    State,
    body,
    fetch,
    fetch_clusters,
    foreign,
    name,
    not_found,
)
from pgstatus.cli.streams import report, write_json
from pgstatus.cli.table import Screen
from pgstatus.core.units import readable
from pgstatus.errors import StartError, in_a_line

NO_HOST = 3

_PARAMETERS = ("lag_ms", "lag_bytes", "min_lsn", "wait_ms", "fallback", "format")
"""Of the endpoints that select a host (docs/http-api.md)."""
_TICK = 0.5
"""Seconds between two updates of the screen, at most."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where and in which form results are written."""

    out: TextIO = sys.stdout
    colour: str = terminal.AUTO
    is_json: bool = False

    def write(self, renderable: RenderableType) -> None:
        terminal.write(renderable, self.out, self.colour)

    def write_json(self, value: object) -> None:
        write_json(value, self.out)


def show_hosts(instance: Instance, watch: float | None, output: Output) -> int:
    """Print the state once, or every change of it until Ctrl-C."""
    return _show(instance, fetch, watch, output)


def show_clusters(instance: Instance, watch: float | None, output: Output) -> int:
    """Print the state of all clusters once, or repeatedly until Ctrl-C."""
    return _show(instance.of_all, fetch_clusters, watch, output)


def _show(instance: Instance, fetching: Fetch, watch: float | None, output: Output) -> int:
    if watch is not None:
        with suppress(KeyboardInterrupt):
            _watch(instance, Follower(instance, watch, fetching), output)
        return 0
    state = fetching(instance)
    if output.is_json:
        output.write_json(state.json)
    else:
        output.write(_screen(state, Source(instance.shown)))
    return 0 if state.has_master else NO_HOST


def _screen(
    state: State | Clusters, source: Source, height: int | None = None
) -> ClustersScreen | Screen:
    if isinstance(state, Clusters):
        return ClustersScreen(state, source, height)
    return Screen(state, source, height)


def _watch(instance: Instance, follower: Follower, output: Output) -> None:
    console = terminal.console(output.out, output.colour)
    if console.is_terminal and not console.is_dumb_terminal and not output.is_json:
        _watch_on_screen(instance, follower, console)
    reported: set[str] = set()
    while True:
        received = follower.next(3600)
        if isinstance(received, State | Clusters):
            reported.clear()
            if output.is_json:
                output.write_json(received.json)
            else:
                output.write(_screen(received, Source(instance.shown)))
                output.out.write("\n")
            output.out.flush()
        elif isinstance(received, Lost) and received.reason not in reported:
            reported.add(received.reason)  # once, not at every attempt
            at = datetime.now().astimezone()
            reason = in_a_line(received.reason)
            report("warning", f"{at:%Y-%m-%d %H:%M:%S}: {reason}")


def _watch_on_screen(instance: Instance, follower: Follower, console: Console) -> None:
    state: State | Clusters | None = None
    lost: str | None = None
    received_at = time.monotonic()
    screen: RenderableType = Text(f"connecting to {instance.shown}")
    try:
        with _ending_on_sigterm(), Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(screen, refresh=True)
                size, received = console.size, follower.next(_TICK)
                while received is None and lost is None and console.size == size:
                    received = follower.next(_TICK)
                if isinstance(received, Lost):
                    lost = received.reason
                elif received is not None:
                    lost, received_at = None, time.monotonic()
                    if not isinstance(received, Unchanged):
                        state = received
                    elif state is not None:
                        state = replace(state, now=received.now)
                if state is not None:
                    source = Source(instance.shown, lost, time.monotonic() - received_at)
                    screen = _screen(state, source, console.height)
                elif lost is not None:
                    screen = Text(in_a_line(lost), BAD)
    finally:
        # The screen of the terminal before the command is shown again.
        console.print(screen)


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """SIGTERM restores the terminal, too."""

    def end(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def show_explanation(instance: Instance, question: str, output: Output) -> int:
    """Print for each host why ``replica?lag_ms=50`` selects it, or does not."""
    path = f"/explain/{quote(question.lstrip('/'), safe='/?&=:%')}"
    response = instance.get(path, "application/json")
    if response.status == 404:
        if "error_text" in response.body:  # the cluster is unknown, or none is chosen
            raise not_found(instance, response)
        raise StartError(
            f"unknown endpoint {question!r}: expected master, replica, sync_by_time or another one "
            "that selects a host, with its limits, as in replica?lag_ms=50"
        )
    try:
        verdicts = list(json.loads(body(response)))
        table = _explanation(verdicts)
        chosen = [verdict["chosen"] for verdict in verdicts]
    except (ValueError, TypeError, KeyError, AttributeError):
        verdicts = chosen = []
    if not verdicts:
        raise foreign(instance)
    if output.is_json:
        output.write_json(verdicts)
    else:
        output.write(table)
    return 0 if any(chosen) else NO_HOST


def unknown_parameters(question: str) -> Iterator[str]:
    """A warning for each parameter that the instance ignores."""
    for parameter in parse_qs(urlsplit(question).query, keep_blank_values=True):
        if parameter not in _PARAMETERS:
            similar = get_close_matches(parameter, _PARAMETERS, 1)
            hint = f" (did you mean {similar[0]}?)" if similar else ""
            yield f"the unknown parameter {parameter!r} is ignored{hint}"


def _explanation(verdicts: Sequence[Entry]) -> Explanations:
    rows = []
    for verdict in verdicts:
        sign, style = ("+", GOOD) if verdict["chosen"] else ("-", "")
        cells = (sign, name(verdict), in_a_line(readable(verdict["why"])))
        rows.append([Text(text, style) for text in cells])
    return Explanations(rows, padding=1)
