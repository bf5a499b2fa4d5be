"""A real pg-status process, as an administrator would start it."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from pgstatus.demo.binaries import children_of
from tests.support.waiting import wait_until


class Daemon:
    """One process, started on entry and stopped on exit of a ``with`` block.

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
        self.environment = {
            **inherited,
            "pg_status__http_listen_address": address,
            "pg_status__http_port": str(port),
            **{f"pg_status__{name}": str(value) for name, value in variables.items()},
            **(environment or {}),
        }
        self.url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
        self.address = address
        self.port = port
        self.command = [sys.executable, "-m", "pgstatus"]
        self._log = log
        self.client = httpx.Client(base_url=self.url, timeout=5)

    def __enter__(self) -> Self:
        self.launch()
        wait_until(f"{self.url}/ready\n{self.log}", self.is_ready)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(10)

    def launch(self) -> None:
        """Start, without waiting for it to be ready."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stderr=log)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def worker_pid(self) -> int:
        (pid,) = children_of(self.process.pid)
        return pid

    def is_ready(self) -> bool:
        assert self.process.poll() is None, f"the daemon ended: {self.log}"
        try:
            return self.client.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

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
        return self.process.wait(10)
