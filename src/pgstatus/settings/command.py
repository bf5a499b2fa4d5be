"""The command of ``pg_status__on_change``."""

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pgstatus.settings.variables import PREFIX


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, run without a shell."""

    words: Sequence[str]
    limit: float = field(compare=False)
    """Seconds after which it is terminated."""
    environment: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


def parse_command(text: str, limit: float, environ: Mapping[str, str]) -> Command:
    """ValueError if the text is invalid or the program cannot be executed."""
    try:
        words = shlex.split(text)
    except ValueError as error:  # "No closing quotation"
        raise ValueError(f"{error}; expected a command and its arguments") from None
    if not words or shutil.which(words[0], path=environ.get("PATH", os.defpath)) is None:
        raise ValueError(
            f"{words[0] if words else text!r}: no such program, or not executable; for a shell "
            "command use: sh -c '…'"
        )
    # Without the variables of pg-status, which include passwords.
    environment = {k: v for k, v in environ.items() if not k.lower().startswith(PREFIX)}
    return Command(tuple(words), limit, environment)
