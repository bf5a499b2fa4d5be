"""The same daemon with gunicorn's arbiter and its thread worker instead of our event loop."""

import os
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication

from pgstatus.daemon.runtime import Runtime
from pgstatus.outputs.systemd import Notifier
from pgstatus.settings.load import Configuration, load


class Plain(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """One worker with four threads."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        super().__init__()

    def load_config(self) -> None:
        process = self._configuration.process
        bind = f"{process.listen_address}:{process.listen_port}"
        for name, value in {"bind": bind, "workers": 1, "threads": 4, "keepalive": 75}.items():
            self.cfg.set(name, value)

    def load(self) -> Callable[..., Any]:
        runtime = Runtime(
            self._configuration,
            lambda: self._configuration,
            Notifier(),
            wake=lambda: None,
            end=lambda: os._exit(1),
            changed=lambda: None,
            forget=lambda: None,
        )
        runtime.start()
        return runtime.wsgi


if __name__ == "__main__":
    Plain(load(os.environ)).run()
