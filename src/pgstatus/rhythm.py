"""When to check next. Pure: how long there has been no healthy master in, a pause out.

Normally every ``sleep``. Without a healthy master every ``failover_sleep``, because the next
thing to happen is a promotion; easing off to the normal pause when it lasts, because then it is
no failover but the state of things (all hosts down, or a list of replicas alone).
"""

from dataclasses import dataclass

# Automatic failovers take seconds to half a minute (Patroni: ttl 30 s).
_FAST_FOR = 60.0
_DOUBLES_EVERY = 15.0


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Pauses between two rounds of checks, seconds."""

    sleep: float
    failover_sleep: float

    def pause(self, without_master: float | None) -> float:
        """The pause after ``without_master`` seconds without a healthy master; None: there is."""
        if without_master is None:
            return self.sleep
        doublings = min(64.0, max(0.0, without_master - _FAST_FOR) / _DOUBLES_EVERY)
        return min(self.sleep, self.failover_sleep * 2**doublings)
