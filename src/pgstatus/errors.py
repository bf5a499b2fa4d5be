"""Every error that pg-status raises on purpose, in one tree.

::

    PgStatusError
    ├── ConfigError      (also ValueError)    variables that cannot be used, all of them at once
    ├── CheckError                            one check of one host failed; ``cause`` says how
    └── StartError       (also OSError)       the process cannot start: a taken port, no binaries
"""

from collections.abc import Sequence


class PgStatusError(Exception):
    """Base of all errors of this package."""


class ConfigError(PgStatusError, ValueError):
    """The configuration cannot be used.

    ``problems`` holds one sentence for each mistake: variable, value (secrets masked) and what
    was expected.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class CheckError(PgStatusError):
    """One check of one host failed. The message is for people, ``cause`` for counting.

    ``cause`` is one of ``resolve``, ``connect``, ``timeout``, ``rejected`` (the server said no),
    ``password`` (its file cannot be read), ``query``, ``protocol``.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class StartError(PgStatusError, OSError):
    """The process cannot start; the message is one sentence that says what to do."""
