"""Real ASGI servers, each in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

from pgstatus.demo.network import free_port
from tests.support.waiting import wait_until


def _uvicorn(loop: str, http: str, app: str, host: str, port: int) -> list[str]:
    options = ["--loop", loop, "--http", http, "--log-level", "warning"]
    return ["uvicorn", app, "--host", host, "--port", str(port), *options]


COMMANDS: dict[str, Callable[[str, str, int], list[str]]] = {
    "uvicorn-asyncio-h11": partial(_uvicorn, "asyncio", "h11"),
    "uvicorn-asyncio-httptools": partial(_uvicorn, "asyncio", "httptools"),
    "uvicorn-uvloop-httptools": partial(_uvicorn, "uvloop", "httptools"),
    "uvicorn-uvloop-h11": partial(_uvicorn, "uvloop", "h11"),
    "hypercorn": lambda app, host, port: ["hypercorn", app, "--bind", f"{host}:{port}"],
    "daphne": lambda app, host, port: ["daphne", app, "-b", host, "-p", str(port)],
}


class ASGIServer:
    """``app`` under one of COMMANDS, with ``environment`` added to this process's.

    ``host`` is an address that no other test run uses.
    """

    def __init__(
        self, kind: str, app: str, environment: dict[str, str], log: Path, host: str
    ) -> None:
        self.address = host, free_port([host], 8500)
        self._command = [sys.executable, "-m", *COMMANDS[kind](app, *self.address)]
        self._environment = {**os.environ, **environment}
        self._log = log
        self._undo = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://{host}:{port}"

    def __enter__(self) -> Self:
        log = self._undo.enter_context(self._log.open("wb"))
        process = subprocess.Popen(
            self._command, env=self._environment, stdout=log, stderr=subprocess.STDOUT
        )
        self._undo.callback(self._end, process)
        wait_until(self.log, lambda: self._answers() or process.poll() is not None, timeout=40)
        assert process.poll() is None, self.log()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def log(self) -> str:
        return self._log.read_text()

    def _answers(self) -> bool:
        import httpx  # noqa: PLC0415

        try:
            return httpx.get(self.url).status_code < 500
        except httpx.HTTPError:
            return False

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
