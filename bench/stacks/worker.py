"""Starts the process of a stack, see `load`, and reads what it has done."""

import json
import subprocess
import sys
from dataclasses import asdict

from bench.stacks.load import Operation, Task


class Worker:
    """The process of a stack."""

    def __init__(self, task: Task) -> None:
        self.stack = task.stack
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.stacks.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._write(json.dumps(asdict(task)))

    def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise SystemExit(f"{self.stack} does not start")

    def stop(self) -> None:
        self._write("stop")

    def operations(self) -> list[Operation]:
        """What it has done, at its end."""
        output, _ = self._process.communicate()
        return [Operation(*each) for each in json.loads(output)]

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
