"""A file of variables, and its way into the environment, where libpq, too, looks for its own.

Nothing of the environment is missing in between: another thread may be looking for it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from dotenv.parser import parse_stream

from pgstatus.errors import ConfigError


def read_env_file(path: Path, environment: dict[str, str]) -> list[str]:
    """Put what the file says into ``environment``; returns what is wrong with its lines.

    ConfigError: it cannot be read. Without it, whatever else is found is no finding.
    """
    try:
        with path.open(encoding="utf-8") as file:
            lines = list(parse_stream(file))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        problem = f"pg_status__env_file={str(path)!r}: expected a readable file ({reason})"
        raise ConfigError([problem]) from None
    problems = []
    for line in lines:
        if line.key is not None and line.value is not None:
            # Not Env.read_env(), which lets the environment win over the file and passes over
            # what it cannot read. libpq, too, shall find its PG* variables.
            if "\0" in line.value:
                problems.append(
                    f"{path}, line {line.original.line}: holds a zero byte; expected text"
                )
                continue
            environment[line.key] = line.value
        elif line.error or line.key is not None:
            # The line itself is not shown: it may hold a password.
            problems.append(f"{path}, line {line.original.line}: expected NAME=value")
    return problems


def become(environment: Mapping[str, str]) -> None:
    """Make ``os.environ`` what it says."""
    # Only what differs is written: libpq may be reading the rest in another thread.
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
