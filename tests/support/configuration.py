"""`load` over an environment made for a test."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pgstatus.errors import ConfigError
from pgstatus.settings.load import Configuration, load
from pgstatus.settings.variables import PREFIX

_NOBODY = 65534


class Loaded:
    """The configuration of one cluster: its settings, and those of the process."""

    def __init__(self, configuration: Configuration) -> None:
        (self.cluster,) = configuration.clusters.values()
        self.process = configuration.process
        self.warnings = configuration.warnings

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cluster if hasattr(self.cluster, name) else self.process, name)


class Loader:
    """``loader(hosts="a,b", sleep_ms=5)``: these variables, and those of the first argument."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, env: Mapping[str, str] | None = None, /, **variables: object) -> Loaded:
        environ = {"HOME": str(self.home), "PATH": "/usr/bin:/bin"}
        for name, value in {"hosts": "a,b,c", **variables}.items():
            if value is not None:
                environ[PREFIX + name] = str(value)
        return Loaded(load({**environ, **(env or {})}))

    def problems(self, env: Mapping[str, str] | None = None, /, **variables: object) -> str:
        """The problems of an invalid configuration, one per line; empty if it is valid."""
        try:
            self(env, **variables)
        except ConfigError as error:
            return "\n".join(error.problems)
        return ""


@contextmanager
def unprivileged() -> Iterator[None]:
    """Without the privileges of root, which ignores the modes of files."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def own(path: Path) -> None:
    """Make the user of `unprivileged` the owner of a file."""
    if os.geteuid() == 0:
        os.chown(path, _NOBODY, -1)
