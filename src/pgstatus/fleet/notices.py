"""What is logged about watchers: each change once. Pure: the time is an argument."""

import logging
from collections.abc import Iterator, Mapping, Sequence

from pgstatus import __version__
from pgstatus.core.changes import Change, Event
from pgstatus.core.snapshot import Host
from pgstatus.core.state import Rules
from pgstatus.fleet.direct import Direct
from pgstatus.fleet.evidence import SILENCE
from pgstatus.fleet.merge import Merge

# Seconds that watchers have to disagree about a host before it is logged: they notice a failure one
# after the other.
_DISAGREE = 5.0


class Notices:
    """Compares what is known of the watchers with what was logged."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        """Why the connection to a source ended, and was not established again."""
        self._away: dict[str, str] = {}
        """The sources that were logged as lost, and why."""
        self._versions: dict[str, str] = {}
        self._intervals: dict[str, float] = {}
        self._disagree: dict[Host, float] = {}
        """Since when."""
        self._logged: set[Host] = set()
        """The hosts about which a disagreement was logged."""

    def lost(self, source: str, reason: str) -> None:
        """The source cannot deliver."""
        self._reasons[source] = reason

    def sources(self, delivering: Mapping[str, bool]) -> tuple[tuple[str, str | None], ...]:
        """Why each source delivers no evidence; None: it delivers. Without the relay itself."""
        return tuple(
            (source, None if delivers else self._reasons.get(source, "no evidence yet"))
            for source, delivers in delivering.items()
            if source != Direct.name
        )

    def events(
        self, merge: Merge, hosts: Sequence[Host], rules: Rules, now: float
    ) -> Iterator[Event]:
        """What is to be logged now."""
        yield from self._of_sources(merge, now)
        yield from self._of_intervals(merge, rules)
        self._logged.intersection_update(hosts)
        for host in hosts:
            yield from self._of_host(merge, host, now)

    def _of_sources(self, merge: Merge, now: float) -> Iterator[Event]:
        for source, watcher in merge.watchers.items():
            if watcher.is_live(now):
                self._reasons.pop(source, None)
                if self._away.pop(source, None) is not None:
                    yield _event(source, f"{source}: evidence is received again")
                if self._versions.get(source) != watcher.version:
                    self._versions[source] = watcher.version
                    if watcher.version != __version__:
                        text = f"{source}: version {watcher.version} (this instance: {__version__})"
                        yield _event(source, text)
            elif watcher.hosts is not None and watcher.connected:
                self._reasons.setdefault(source, f"no document for {SILENCE:.0f} s")
        for source, reason in self._reasons.items():
            if self._away.get(source) != reason:
                self._away[source] = reason
                yield _event(source, f"{source}: no evidence: {reason}", logging.WARNING)

    def _of_intervals(self, merge: Merge, rules: Rules) -> Iterator[Event]:
        """Watchers that check less often than the rules of this instance assume."""
        for source, watcher in merge.watchers.items():
            if watcher.interval > rules.sleep and self._intervals.get(source) != watcher.interval:
                text = (
                    f"{source}: the hosts are checked every {watcher.interval * 1000:g} ms, but "
                    f"sleep_ms of this instance is {rules.sleep * 1000:g}: evidence may be too old"
                )
                yield _event(source, text, logging.WARNING)
            self._intervals[source] = watcher.interval

    def _of_host(self, merge: Merge, host: Host, now: float) -> Iterator[Event]:
        reports = merge.watchers_of(host.address, now)
        if not reports:
            self._disagree.pop(host, None)
            # A single watcher does not agree with another one.
            if host in self._logged and merge.count_of(host.address, now) > 1:
                self._logged.discard(host)
                yield _event(str(host), f"{host}: the watchers agree again")
            return
        since = self._disagree.setdefault(host, now)
        if host not in self._logged and now - since >= _DISAGREE:
            self._logged.add(host)
            errors = "; ".join(
                f"not reachable from {name}: {error}" for name, error in reports if error
            )
            others = ", ".join(name for name, error in reports if not error)
            text = f"{host}: the watchers disagree: {errors}; reachable from {others}"
            yield _event(str(host), text, logging.WARNING)


def _event(source: str, text: str, level: int = logging.INFO) -> Event:
    return Event(Change.WATCHER, source, text, level)
