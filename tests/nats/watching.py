"""Processes of tests.nats.watcher."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.running import Program

OFFSET = 5000
"""Seconds by which the clock of a watcher differs where it runs in a time namespace."""


class Watcher(Program):
    """One watcher of a cluster."""

    def __init__(
        self,
        log: Path,
        cluster: str,
        name: str,
        variables: Mapping[str, object],
        *,
        hosts: tuple[str, ...] = ("pg1", "pg2", "pg3"),
        own_clock: bool = False,
    ) -> None:
        """``own_clock``: its clock is `OFFSET` seconds ahead; requires root."""
        environment = {
            f"pg_status__{key}": str(value)
            for key, value in {"nats_name": name, **variables}.items()
        }
        command = [sys.executable, "-m", "tests.nats.watcher", cluster, *hosts]
        if own_clock:
            command = [
                "unshare",
                "--time",
                "--boottime",
                str(OFFSET),
                "--fork",
                "--kill-child",
                *command,
            ]
        super().__init__(command, log, environment)
        self.name = name

    def launch(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    def answers(self) -> bool:
        return "connected to" in self.log

    def change(self, lsn: int) -> None:
        """The first host has written up to this position."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{lsn}\n".encode())
        self.process.stdin.flush()

    def kill(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.kill()
