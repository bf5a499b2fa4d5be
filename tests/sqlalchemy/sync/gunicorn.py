"""A real WSGI server in processes of its own."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx

from pgstatus.demo.network import free_port
from tests.support.waiting import wait_until


class Gunicorn:
    """``app`` under gunicorn with worker processes, and threads in each of them."""

    def __init__(
        self,
        app: str,
        environment: dict[str, str],
        log: Path,
        *,
        address: str,
        workers: int,
        threads: int,
    ) -> None:
        """``address``: one that no other test run uses."""
        self.url = f"http://{address}:{free_port([address], 8600)}"
        self._command = [
            sys.executable, "-m", "gunicorn", app, "--bind", self.url.removeprefix("http://"),
            "--worker-class", "gthread", "--workers", str(workers), "--threads", str(threads),
            # The application is imported before the processes are forked.
            "--preload", "--graceful-timeout", "5", "--no-control-socket",
        ]  # fmt: skip
        self._environment = {**os.environ, **environment}
        self._log = log
        self._undo = ExitStack()

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
        try:
            return httpx.get(self.url).status_code < 500
        except httpx.HTTPError:
            return False

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
