"""The Falcon application under the arbiter and the thread worker of gunicorn, for comparison."""

import os
import sys
from typing import Any

from gunicorn.app.base import BaseApplication

from pgstatus.core.changes import Update
from pgstatus.core.snapshot import Failure, Host, Observation
from pgstatus.daemon.generation import Generation
from pgstatus.settings.load import load
from pgstatus.telemetry.history import History


class _Owner:
    """Ignores the reports of the monitoring thread."""

    def published(self, generation: Generation, update: Update) -> None: ...

    def checked(
        self, generation: Generation, host: Host, result: Observation | Failure, seconds: float
    ) -> None: ...

    def heartbeat(self, generation: Generation) -> None: ...

    def failed(self, generation: Generation, error: BaseException) -> None:
        os._exit(os.EX_SOFTWARE)


class _Plain(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self) -> None:
        self._settings = load(os.environ)
        super().__init__()

    def load_config(self) -> None:
        self.cfg.set("bind", f"{self._settings.listen_address}:{self._settings.listen_port}")
        self.cfg.set("worker_class", "gthread")
        self.cfg.set("threads", 4)
        self.cfg.set("keepalive", 75)
        self.cfg.set("loglevel", "warning")

    def load(self) -> Any:
        """Called in the worker process."""
        generation = Generation(
            self._settings,
            _Owner(),
            history=History(),
            expose=lambda generation, accept: ("text/plain", b""),
            reloads=lambda: "",
        )
        generation.monitor.start()
        return generation.application.wsgi


if __name__ == "__main__":
    sys.exit(_Plain().run())
