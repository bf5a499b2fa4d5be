"""How far a limit on connections is used, and when that is too far. Pure."""

from dataclasses import dataclass

# An instance has one session on a host, and a second one for a moment while it replaces the session
# or its configuration.
PER_INSTANCE = 2
_TOO_FULL = 0.9


@dataclass(frozen=True, slots=True)
class Usage:
    """The connections that count towards one limit, without the one that has counted them."""

    subject: str
    """What has the limit: ``role monitor``."""
    used: int
    limit: int
    remedy: str = ""
    """The SQL that raises the limit, if that is one command without a restart."""

    @property
    def is_nearly_exhausted(self) -> bool:
        """Two more instances may exceed the limit, or more than 90 % of it are used."""
        return self.free < 2 * PER_INSTANCE or self.used > _TOO_FULL * self.limit

    @property
    def free(self) -> int:
        return max(0, self.limit - self.used)

    def __str__(self) -> str:
        return f"{self.subject}: {self.free} of {self.limit} connections are free"


def raised(limit: int) -> int:
    """The limit to recommend instead of one that is nearly exhausted."""
    return max(10, 2 * limit)
