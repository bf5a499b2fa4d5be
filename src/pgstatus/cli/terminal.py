"""Output for people: width and colours of the terminal, plain text for everything else."""

import io
import os
import sys
from typing import TextIO

from rich.console import Console, RenderableType
from rich.measure import Measurement

AUTO, ALWAYS, NEVER = "auto", "always", "never"
COLOURS = (AUTO, ALWAYS, NEVER)

_UNLIMITED = 10_000


def uses_colour(colour: str, out: TextIO) -> bool:
    """``colour`` is one of `COLOURS`; ``auto`` respects NO_COLOR (https://no-color.org)."""
    if colour != AUTO:
        return colour == ALWAYS
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def console(out: TextIO, colour: str = AUTO) -> Console:
    """Writes to ``out``, with the 16 colours of the user's theme."""
    return Console(
        file=out,
        color_system="standard" if uses_colour(colour, out) else None,
        highlight=False,
        no_color=False,  # otherwise it evaluates NO_COLOR itself
        emoji=False,
    )


def write(renderable: RenderableType, out: TextIO = sys.stdout, colour: str = AUTO) -> None:
    """Write once. A pipe or a file gets lines as long as necessary."""
    terminal = console(out, colour)
    if out.isatty():
        terminal.print(renderable)
        return
    terminal.width = _UNLIMITED
    terminal.width = Measurement.get(terminal, terminal.options, renderable).maximum
    with terminal.capture() as capture:
        terminal.print(renderable)
    out.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def plain(renderable: RenderableType) -> str:
    """The text without colours; ends with a line feed."""
    out = io.StringIO()
    write(renderable, out, NEVER)
    return out.getvalue()
