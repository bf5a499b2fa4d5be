"""A command for `on_change` that records its input and then runs statements of the test."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

_PROGRAM = """#!{python} -SE
import json, os, signal, subprocess, sys, time
note = {{"pid": os.getpid(), "at": time.monotonic(), "environment": dict(os.environ),
        "arguments": sys.argv[1:], "report": json.load(sys.stdin)}}
with open({notes!r}, "a") as file:
    file.write(json.dumps(note) + "\\n")
{then}
"""


class Run:
    """The input of one run."""

    def __init__(self, note: dict[str, Any]) -> None:
        self.pid: int = note["pid"]
        self.at: float = note["at"]
        """Time of its start on the monotonic clock of this machine."""
        self.environment: dict[str, str] = note["environment"]
        self.arguments: list[str] = note["arguments"]
        self.report: dict[str, Any] = note["report"]

    def __getitem__(self, name: str) -> str:
        """``run["MASTER"]`` is ``PG_STATUS_MASTER``."""
        return self.environment[f"PG_STATUS_{name}"]

    def words(self, name: str) -> set[str]:
        """The items of a variable that contains a list."""
        return set(self[name].split())


class Recorder:
    """``command`` is the value for `on_change`; ``then`` is Python, run after each note."""

    def __init__(self, directory: Path, then: str = "") -> None:
        self._notes = directory / "notes"
        self._program = directory / "recorder"
        self.then(then)
        self._program.chmod(0o755)
        self.command = shlex.quote(str(self._program))

    def then(self, statements: str) -> None:
        """Set the statements of the following runs."""
        self._program.write_text(
            _PROGRAM.format(python=sys.executable, notes=str(self._notes), then=statements)
        )

    @property
    def runs(self) -> list[Run]:
        if not self._notes.exists():
            return []
        lines = self._notes.read_text().split("\n")
        return [Run(json.loads(line)) for line in lines[:-1]]  # the last one is not finished

    @property
    def last(self) -> Run | None:
        return self.runs[-1] if self.runs else None
