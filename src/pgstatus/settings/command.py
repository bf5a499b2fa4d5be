"""The command of ``pg_status__on_change``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: a program with its arguments, no shell."""

    words: Sequence[str]
    limit: float = field(compare=False)
    """Seconds that it may take."""
    environment: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
