"""How to reach one host: what the configuration says and the probe does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pgstatus.core.snapshot import Host


@dataclass(frozen=True, slots=True)
class Target:
    """How to reach one host.

    ``params`` are libpq connection parameters; what they leave out libpq takes from its own
    ``PG*`` variables. ``password_file`` is read at every connect and wins over ``params``.
    """

    params: Mapping[str, str] = field(repr=False)
    connect_timeout: float
    """Seconds for resolve, connect and authenticate."""
    query_timeout: float
    """Seconds for the whole check."""
    max_age: float
    """Seconds after which a kept connection is replaced; 0: a fresh one for every check."""
    password_file: Path | None = None

    def __str__(self) -> str:
        return str(Host(self.params["host"], int(self.params.get("port", "5432"))))
