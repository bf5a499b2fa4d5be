"""What the monitor needs of a probe, and the result of a check as a value."""

import logging
from collections.abc import Callable
from typing import Protocol

from pgstatus import clock
from pgstatus.core.snapshot import Failure, Observation, Position
from pgstatus.errors import Cause, CheckError

log = logging.getLogger(__name__)


class Prober(Protocol):
    """Checks one host, one check at a time; see `probe.Probe`."""

    async def check(self) -> Observation:
        """One check within its own deadline; CheckError if it failed."""

    async def position(self) -> Position:
        """One position check; CheckError if it failed."""

    def close(self) -> None:
        """Close the connection."""


ProbeFactory = Callable[[int, Callable[[], None]], Prober]
"""(index of the host, function to call on the loop when its connection breaks) → probe."""


async def outcome(prober: Prober) -> Observation | Failure:
    """The result of one check, whatever happens: a host can only harm itself."""
    started = clock.now()
    try:
        return await prober.check()
    except Exception as error:
        return failure_of(error, started)


def failure_of(error: Exception, started: float) -> Failure:
    """The failed check that began at ``started`` and ended with this exception."""
    if not isinstance(error, CheckError):
        log.debug("a check failed unexpectedly", exc_info=error)
        words = f"unexpected {type(error).__name__} during the check: {error}"
        error = CheckError(Cause.PROTOCOL, words)
    return Failure(error.cause, str(error), started, clock.now(), down=error.down)
