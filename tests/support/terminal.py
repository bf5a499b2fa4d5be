"""A terminal of 80 columns and 24 lines in which a command runs, and what it shows."""

import contextlib
import fcntl
import html
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyte

from tests.support.waiting import wait_until

COLUMNS, LINES = 80, 24


class Terminal:
    """The screen of a running command."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self.output = b""
        """Everything that was written."""
        self._descriptor = descriptor
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def lines(self) -> list[str]:
        """The present lines, without trailing spaces."""
        self._read()
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def colours(self, text: str) -> set[str]:
        """The colours of the first occurrence of ``text``; ``brightblack`` is grey, ``brown`` is
        yellow."""
        for number, line in enumerate(self.lines):
            column = line.find(text)
            if column >= 0:
                row = self._screen.buffer[number]
                return {row[column + offset].fg for offset in range(len(text))} - {"default"}
        return set()

    def all_colours(self) -> set[str]:
        """The colours of all characters."""
        self._read()
        rows = self._screen.buffer.values()
        return {char.fg for row in rows for char in row.values() if char.data != " "}

    def wait_for(self, text: str) -> None:
        wait_until(lambda: f"{text!r} is shown:\n{self.text}", lambda: text in self.text)

    def resize(self, columns: int, lines: int) -> None:
        self._screen.resize(lines, columns)
        _set_size(self._descriptor, columns, lines)

    def html(self) -> str:
        """The screen down to its last text, as an HTML document for a picture."""
        count = max(number for number, line in enumerate(self.lines) if line) + 1
        rows = [
            "".join(_span(self._screen.buffer[y][x]) for x in range(self._screen.columns))
            for y in range(count)
        ]
        return _PAGE.format("\n".join(rows))

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # on Linux, the other side was closed
            while select.select([self._descriptor], [], [], 0)[0]:
                part = os.read(self._descriptor, 65536)
                self.output += part
                self._stream.feed(part)


@contextmanager
def terminal(command: Sequence[str | Path], environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a command in a terminal; at the end it is interrupted by Ctrl-C."""
    ours, theirs = pty.openpty()
    _set_size(theirs, COLUMNS, LINES)
    with subprocess.Popen(
        command, env=dict(environment), stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()
            os.close(ours)


def _set_size(descriptor: int, columns: int, lines: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


_COLOURS = {
    "red": "#e5484d", "green": "#3dc97a", "brown": "#e6b450", "brightblack": "#737b85",
    "default": "#d6dbe1",
}  # fmt: skip
_PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 14px 18px; width: max-content; background: #14181d; }}
pre {{ margin: 0; color: #d6dbe1; font: 15px/1.3 "DejaVu Sans Mono", monospace; }}
</style><pre>{}</pre>"""


def _span(char: pyte.screens.Char) -> str:
    weight = ";font-weight:bold" if char.bold else ""
    colour = _COLOURS.get(char.fg, char.fg)
    return f'<span style="color:{colour}{weight}">{html.escape(char.data)}</span>'
