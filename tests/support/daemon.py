"""A real pg-status process, as an administrator would start it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.running import Program, answers
from tests.support.waiting import PATIENCE, wait_until


class Daemon(Program):
    """One process, and a client of it.

    ``variables`` come without their prefix: ``{"sleep_ms": 200}``.
    """

    def __init__(
        self,
        log: Path,
        variables: Mapping[str, object],
        *,
        address: str,
        port: int = 8000,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("pg_status__", "PG"))}
        environment = {
            **inherited,
            "pg_status__http_listen_address": address,
            "pg_status__http_port": str(port),
            **{f"pg_status__{name}": str(value) for name, value in variables.items()},
            **(environment or {}),
        }
        super().__init__([sys.executable, "-m", "pgstatus"], log, environment)
        self.url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
        self.address = address
        self.port = port
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def end(self) -> None:
        self.client.close()
        super().end()

    def answers(self) -> bool:
        return answers(self.client, "/ready")

    @property
    def pid(self) -> int:
        return self.process.pid

    @contextmanager
    def with_stderr(self, descriptor: int) -> Iterator[None]:
        """It runs and is ready, with this stderr. The log stays empty."""
        with ExitStack() as undo:
            undo.callback(self.client.close)
            self.process = subprocess.Popen(self.command, env=self.environment, stderr=descriptor)
            undo.callback(self.process.wait)
            undo.callback(self.process.kill)
            wait_until("it is ready", lambda: answers(self.client, "/ready"))
            yield

    def kill_and_relaunch(self) -> None:
        """What a supervisor does: SIGKILL has ended the process, another one is started."""
        self.process.kill()
        self.process.wait()
        self.launch()
        wait_until("another process responds", self.is_ready)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers=headers)

    def text(self, path: str) -> str:
        """The body of a text answer; empty for a 404."""
        return self.get(path).text

    def json(self, path: str) -> Any:
        return self.get(path, Accept="application/json").json()

    def host(self, name: str) -> dict[str, Any]:
        """The entry of one host in ``/hosts``."""
        return next(entry for entry in self.json("/hosts") if entry["host"] == name)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop it; the exit status."""
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)
