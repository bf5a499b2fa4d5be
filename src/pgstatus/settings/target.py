"""How to connect to one host."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pgstatus.core.snapshot import Host


@dataclass(frozen=True, slots=True)
class Target:
    """How to connect to one host.

    ``params`` are libpq connection parameters, including those of ``PG*`` variables and services.
    ``password_file`` is read at every login and takes precedence over the password in ``params``.
    """

    params: Mapping[str, str] = field(repr=False)
    connect_timeout: float
    """Seconds for name resolution, connection and login together."""
    query_timeout: float
    """Seconds for the whole check."""
    max_age: float
    """Seconds after which a connection is replaced; 0: a new one for every check."""
    password_file: Path | None = None
    application_name: str = "pg-status"
    """Unless ``params`` contain one."""

    def __str__(self) -> str:
        return str(Host(self.params["host"], int(self.params.get("port", "5432"))))
