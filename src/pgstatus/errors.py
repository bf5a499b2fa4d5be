"""The errors that the daemon and the commands raise on purpose. The client has its own.

::

    PgStatusError
    ├── ConfigError      (also ValueError)       variables that cannot be used, all of them at once
    ├── CheckError                               one check of one host failed; ``cause`` is the kind
    ├── StartError       (also OSError)          the process cannot start: port in use, no binaries
    └── UnreachableError (also ConnectionError)  a command received no response from pg-status
"""

from collections.abc import Sequence
from enum import StrEnum

_MAX_LENGTH = 300


class PgStatusError(Exception):
    """Base class of the errors in this module."""


class ConfigError(PgStatusError, ValueError):
    """The configuration is invalid.

    ``problems`` holds one sentence for each mistake: the variable, its value (secrets masked) and
    the expected form. ``warnings`` holds remarks that may explain a problem, ``hint`` another way.
    """

    def __init__(
        self, problems: Sequence[str], warnings: Sequence[str] = (), hint: str | None = None
    ) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)
        self.hint = hint


class Cause(StrEnum):
    """Why a check failed."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TIMEOUT = "timeout"
    REJECTED = "rejected"
    """The server rejected the login."""
    PASSWORD = "password"  # noqa: S105
    """The password file cannot be read."""
    QUERY = "query"
    PROTOCOL = "protocol"


class CheckError(PgStatusError):
    """One check of one host failed. The message is for logs and responses, ``cause`` for metrics.

    The message is limited to one line: see `in_a_line`.
    """

    def __init__(self, cause: Cause, message: str, *, down: bool = False) -> None:
        super().__init__(in_a_line(message))
        self.cause = cause
        self.down = down
        """The server is not running; see `Failure.down`."""


def in_a_line(text: str) -> str:
    """Text from a server or a library, without control characters and at most 300 characters."""
    line = "".join(c if c.isprintable() else " " for c in text[:_MAX_LENGTH])
    return f"{line} …" if len(text) > _MAX_LENGTH else line


class StartError(PgStatusError, OSError):
    """The process cannot start. The message is one sentence that includes the remedy."""


class UnreachableError(PgStatusError, ConnectionError):
    """A command received no HTTP response at the address of pg-status."""
