"""Real ASGI servers, each in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from pgstatus.demo.network import free_port
from tests.support.waiting import wait_until

COMMANDS: dict[str, Callable[[str, int], list[str]]] = {
    "uvicorn-asyncio-h11": lambda app, port: _uvicorn(app, port, "asyncio", "h11"),
    "uvicorn-asyncio-httptools": lambda app, port: _uvicorn(app, port, "asyncio", "httptools"),
    "uvicorn-uvloop-httptools": lambda app, port: _uvicorn(app, port, "uvloop", "httptools"),
    "uvicorn-uvloop-h11": lambda app, port: _uvicorn(app, port, "uvloop", "h11"),
    "hypercorn": lambda app, port: ["hypercorn", app, "--bind", f"127.0.0.1:{port}"],
    "daphne": lambda app, port: ["daphne", app, "-b", "127.0.0.1", "-p", str(port)],
}


def _uvicorn(app: str, port: int, loop: str, http: str) -> list[str]:
    options = ["--port", str(port), "--loop", loop, "--http", http, "--log-level", "warning"]
    return ["uvicorn", app, *options]


class ASGIServer:
    """``app`` under one of COMMANDS, with ``environment`` added to this process's."""

    def __init__(self, kind: str, app: str, environment: dict[str, str], log: Path) -> None:
        self.port = free_port(["127.0.0.1"], 8500)
        self._command = [sys.executable, "-m", *COMMANDS[kind](app, self.port)]
        self._environment = {**os.environ, **environment}
        self._log = log
        self._undo = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

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
