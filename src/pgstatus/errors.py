"""Every error that pg-status raises on purpose, in one tree.

::

    PgStatusError
    ├── ConfigError      (also ValueError)    variables that cannot be used, all of them at once
    ├── CheckError                            one check of one host failed; ``cause`` says how
    ├── StartError       (also OSError)       the process cannot start: a taken port, no binaries
    └── ClientError                           pg-status gave an application no usable answer
        ├── UnreachableError (also ConnectionError)  nobody answers there, or not as pg-status
        ├── DeadlineError    (also TimeoutError)     no answer within the client's deadline
        ├── NotReadyError                            503: it has no evidence that it would vouch for
        ├── SplitBrainError                          503: several say they are the master, so nobody
        ├── NoHostError      (also LookupError)      404: no host fits the question
        └── RefusedError     (also ValueError)       400, 401, 403: the question or the token
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum

_LONGEST = 300


class PgStatusError(Exception):
    """Base of all errors of this package."""


class ConfigError(PgStatusError, ValueError):
    """The configuration cannot be used.

    ``problems`` holds one sentence for each mistake: variable, value (secrets masked) and what
    was expected; ``warnings`` what may be one, and the reason for the others.
    """

    def __init__(self, problems: Sequence[str], warnings: Sequence[str] = ()) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)


class Cause(StrEnum):
    """Why a check can fail."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TIMEOUT = "timeout"
    REJECTED = "rejected"
    """The server said no."""
    PASSWORD = "password"  # noqa: S105
    """Its file cannot be read."""
    QUERY = "query"
    PROTOCOL = "protocol"


class CheckError(PgStatusError):
    """One check of one host failed. The message is for people, ``cause`` for counting.

    It goes into logs and answers: see `in_a_line`.
    """

    def __init__(self, cause: Cause, message: str, *, down: bool = False) -> None:
        super().__init__(in_a_line(message))
        self.cause = cause
        self.down = down
        """The server is not running; see `Failure.down`."""


def in_a_line(words: str) -> str:
    """What somebody else has said, without control characters and of bearable length."""
    line = "".join(c if c.isprintable() else " " for c in words[:_LONGEST])
    return f"{line} …" if len(words) > _LONGEST else line


class StartError(PgStatusError, OSError):
    """The process cannot start; the message is one sentence that says what to do."""


class ClientError(PgStatusError):
    """pg-status gave no usable answer, and none is left that is young enough to use again."""


class UnreachableError(ClientError, ConnectionError):
    """Nothing that talks like pg-status is at that address."""


class DeadlineError(ClientError, TimeoutError):
    """The answer was not complete within the deadline."""


class NotReadyError(ClientError):
    """503: not every host was asked yet, or the evidence is too old to be served."""


class SplitBrainError(ClientError):
    """503: several hosts say they are the master, and pg-status was told to name none then.

    ``hosts`` are they, as ``name:port``.
    """

    def __init__(self, hosts: Iterable[str], message: str) -> None:
        super().__init__(message)
        self.hosts = tuple(hosts)


class NoHostError(ClientError, LookupError):
    """404: no host fits, or pg-status does not know the host asked about."""


class RefusedError(ClientError, ValueError):
    """The request was understood and refused; ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
