"""``pg-status hosts`` and ``pg-status explain``: the state of a running instance, for people.

Exit status: 0 a host is selected, 3 no host is, 1 the instance cannot be reached. An unusable
configuration has status 78 in all commands.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TextIO
from urllib.parse import quote

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from pgstatus.cli import terminal
from pgstatus.cli.follow import Follower, Lost
from pgstatus.cli.remote import Instance
from pgstatus.cli.state import Entry, State, body, fetch, foreign, name
from pgstatus.cli.table import BAD, GOOD, Screen
from pgstatus.core.units import readable
from pgstatus.errors import StartError, in_a_line

NO_HOST = 3

_TICK = 0.5
"""Seconds between two updates of the clock on the screen."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where and in which form results are written."""

    out: TextIO = sys.stdout
    colour: str = terminal.AUTO
    is_json: bool = False

    def write(self, renderable: RenderableType) -> None:
        terminal.write(renderable, self.out, self.colour)

    def write_json(self, value: object) -> None:
        self.out.write(json.dumps(value, ensure_ascii=False) + "\n")
        self.out.flush()


def show_hosts(instance: Instance, watch: float | None, output: Output) -> int:
    """Print the state once, or every change of it until Ctrl-C."""
    if watch is not None:
        with suppress(KeyboardInterrupt):
            _watch(instance, watch, output)
        return 0
    state = fetch(instance)
    if output.is_json:
        output.write_json(state.json)
    else:
        output.write(Screen(state, instance.url))
    return NO_HOST if state.master is None else 0


def _watch(instance: Instance, interval: float, output: Output) -> None:
    follower = Follower(instance, interval)
    console = terminal.console(output.out, output.colour)
    if console.is_terminal and not console.is_dumb_terminal and not output.is_json:
        _watch_on_screen(instance, follower, console)
    while True:
        received = follower.next(3600)
        if output.is_json and isinstance(received, State):
            output.write_json(received.json)
        elif isinstance(received, State):
            output.write(Screen(received, instance.url))
            output.out.write("\n")
        elif received is not None and not output.is_json:
            output.write(Text(in_a_line(received.reason)))
        output.out.flush()


def _watch_on_screen(instance: Instance, follower: Follower, console: Console) -> None:
    state: State | None = None
    lost: str | None = None
    since = time.monotonic()
    screen: RenderableType = Text(f"connecting to {instance.url}")
    try:
        with _ending_on_sigterm(), Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(screen, refresh=True)
                received = follower.next(_TICK)
                if isinstance(received, State):
                    state, lost, since = received, None, time.monotonic()
                elif isinstance(received, Lost):
                    lost = received.reason
                age = time.monotonic() - since
                if state is not None:
                    height = console.height
                    screen = Screen(state, instance.url, age=age, lost=lost, height=height)
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


def _explanation(verdicts: Sequence[Entry]) -> Table:
    grid = Table.grid(Column(), Column(no_wrap=True), Column(overflow="fold"), padding=(0, 1, 0, 0))
    for verdict in verdicts:
        sign, style = ("+", GOOD) if verdict["chosen"] else ("-", "")
        cells = (sign, name(verdict), in_a_line(readable(verdict["why"])))
        grid.add_row(*(Text(text, style) for text in cells))
    return grid
