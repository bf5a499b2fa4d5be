"""When to check next. Pure: the duration of a failover in, a pause out.

Normally the pause is ``sleep``. Without a healthy master it is ``failover_sleep``, because a
promotion is expected, until the replicas follow the new master. If this state lasts, the pause
grows to the normal one: then it is not a failover but permanent (all hosts are down, or only
replicas are configured). The same applies while not every host has been checked: what is known may
be older than a failover.
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
        """The minimum time between two checks because a connection broke, seconds.

        ``false_alarms``: so many checks in a row for this reason have found the host healthy. A
        broken connection is the first sign of a crash; but a pooler that closes idle connections
        all the time must not cause checks all the time.
        """
        if not false_alarms:
            return 0.0
        return min(self.sleep, self.failover_sleep * 2.0 ** min(64, false_alarms - 1))

    def pause(self, failover_seconds: float | None) -> float:
        """The pause after a failover has lasted this long; None: there is none."""
        if failover_seconds is None:
            return self.sleep
        doublings = min(64.0, max(0.0, failover_seconds - _FAST_FOR) / _DOUBLES_EVERY)
        return min(self.sleep, self.failover_sleep * 2**doublings)
