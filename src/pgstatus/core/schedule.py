"""When to check next. Pure: how long a failover has been under way in, a pause out.

Normally every ``sleep``. Without a healthy master every ``failover_sleep``, because the next
thing to happen is a promotion, and on until the replicas follow the new master; easing off to the
normal pause when it lasts, because then it is no failover but the state of things (all hosts
down, or a list of replicas alone). It is the same while not every host has been asked: what is
known may be from before a failover.
"""

from dataclasses import dataclass

# Automatic failovers take seconds to half a minute (Patroni: ttl 30 s).
_FAST_FOR = 60.0
_DOUBLES_EVERY = 15.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """Pauses between two rounds of checks, seconds."""

    sleep: float
    failover_sleep: float

    def patience(self, false_alarms: int) -> float:
        """How long to wait for the next look because a host's connection broke, seconds since the
        last such look. ``false_alarms``: so many in a row before have found it well.

        A broken connection is the first sign of a crash; but a pooler that ends idle connections
        all the time must not make us look all the time.
        """
        if not false_alarms:
            return 0.0
        return min(self.sleep, self.failover_sleep * 2.0 ** min(64, false_alarms - 1))

    def pause(self, restless: float | None) -> float:
        """The pause after ``restless`` seconds of a failover; None: all is quiet."""
        if restless is None:
            return self.sleep
        doublings = min(64.0, max(0.0, restless - _FAST_FOR) / _DOUBLES_EVERY)
        return min(self.sleep, self.failover_sleep * 2**doublings)
