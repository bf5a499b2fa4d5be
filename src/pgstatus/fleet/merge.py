"""Which results of several watchers count. Pure: every time is an argument.

* A successful check counts unless the host was checked after it began. Which check was first is
  certain only if one had ended before the other began.
* A failed check counts unless another live watcher has a current success for the host: one that
  began after the failed check, or as long ago as the interval of that watcher explains. Until then
  it is pending. The rules of `core.tracker` decide what a failed check that counts means.
* A watcher from which no document arrives is not live after `SILENCE`: its failures do not count,
  and its successes do not outweigh the failures of others. What it has observed keeps its age.
* What a watcher remembers of the cluster counts once: the hosts decide what becomes of it.

There is no election among watchers and no quorum: the newest observation of each host counts.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from typing import NamedTuple

from pgstatus.core.snapshot import Failure, Host, Observation, Position
from pgstatus.core.state import Look, Memory
from pgstatus.fleet.clocks import WatcherClock
from pgstatus.fleet.document import Document
from pgstatus.fleet.evidence import SILENCE

Address = tuple[str, int]

# A watcher reports a check that does not end half a second after its beginning, and sends at most a
# quarter of a second later.
_GRACE = 0.75
# Pending failures of a host and watcher at most; of more, the first ones and the last one.
_PENDING = 16
# A watcher whose clock goes back by this, seconds, is another one: a virtual machine was restored.
_SET_BACK = 1.0
# Times in documents are rounded, seconds.
_ROUNDING = 1e-5


class Counted(NamedTuple):
    """A result that counts, with its times on the clock of this process."""

    address: Address
    watcher: str
    look: Look
    value: Observation | Failure | Position


@dataclass(slots=True)
class _Report:
    """What a watcher reports of one host."""

    last: float = -inf
    """When the last check ended, on the clock of the watcher."""
    seen: Observation | None = None
    failure: Failure | None = None
    """The last check, if it failed or is overdue."""
    look: Look = Look.ROUND
    """Of the failure."""
    pending: list[tuple[Look, Failure]] = field(default_factory=list)
    """The failed checks that may count later. All of them do, so that a host is dead as soon as at
    a watcher whose failures count at once."""


@dataclass(slots=True)
class Watcher:
    """One process that checks the hosts."""

    epoch: str
    name: str = ""
    version: str = ""
    ready: bool = False
    interval: float = 1.0
    connected: bool = True
    said: float = -inf
    """When it sent its last document, on its own clock."""
    sent: float = -inf
    """The same on the clock of this process."""
    hosts: tuple[Host, ...] | None = None
    """None: no complete document has been received."""
    memory: Memory | None = None
    clock: WatcherClock = field(default_factory=WatcherClock)
    reports: dict[Address, _Report] = field(default_factory=dict)

    def is_live(self, now: float) -> bool:
        return self.connected and self.hosts is not None and now - self.sent <= SILENCE


class _Newest(NamedTuple):
    """The newest successful check of a host."""

    watcher: Watcher | None
    """None: it was known before."""
    theirs: float
    """When it ended, on the clock of the watcher."""
    started: float
    finished: float


class Merge:
    """The evidence of all watchers of one cluster; a watcher is identified by its source."""

    def __init__(self, sources: Iterable[str] = (), known: Iterable[Counted] = ()) -> None:
        """``known``: successful checks from before. Each counts as soon as a watcher has reported
        an older check of this host.
        """
        self.watchers: dict[str, Watcher] = {}
        """By source."""
        self._order = {source: number for number, source in enumerate(sources)}
        self._known = {counted.address: counted for counted in known}
        self._newest = {
            address: _Newest(None, -inf, counted.value.started, counted.value.finished)
            for address, counted in self._known.items()
        }
        self._memories: list[Memory] = []

    def received(
        self, source: str, document: Document, at: float, after: float = -inf
    ) -> list[Counted]:
        """A document has arrived: the results that count now."""
        watcher = self.watchers.get(source)
        if (
            watcher is None
            or watcher.epoch != document.watcher
            or document.sent < watcher.said - _SET_BACK
        ):
            watcher = self.watchers[source] = Watcher(document.watcher)
        watcher.said = document.sent
        watcher.clock.received(document.sent, at, after)
        # It needs no age: a watcher that does not run any more may have seen the newest timeline.
        self._remember(watcher, document.memory)
        if not watcher.clock.is_known or (watcher.hosts is None and not document.complete):
            return []
        watcher.name, watcher.version = document.name, document.version
        watcher.ready, watcher.interval = document.ready, document.interval
        watcher.connected = True
        watcher.sent = min(at, watcher.clock.earliest(document.sent))
        if document.complete:
            watcher.hosts = tuple(dict.fromkeys(result.host for result in document.results))
            listed = {host.address for host in watcher.hosts}
            watcher.reports = {a: r for a, r in watcher.reports.items() if a in listed}
        counted = []
        for result in sorted(
            (result for result in document.results if result.value is not None),
            key=lambda result: result.value.finished if result.value else 0.0,
        ):
            if result.value is not None:
                counted += self._add(watcher, result.host.address, result.look, result.value, at)
        return counted

    def lost(self, source: str) -> None:
        """No document arrives from it until further notice."""
        if source in self.watchers:
            self.watchers[source].connected = False

    def live(self, now: float) -> list[Watcher]:
        """The live watchers, in the order of the configuration."""
        return [
            self.watchers[source]
            for source in sorted(self.watchers, key=self._place)
            if self.watchers[source].is_live(now)
        ]

    def delivering(self, now: float) -> dict[str, bool]:
        """Each source, or each watcher of a source that has several, and whether it is live."""
        silent = [
            source
            for source in self._order
            if not any(name.startswith(f"{source}:") for name in self.watchers)
        ]
        found = sorted({*silent, *self.watchers}, key=self._place)
        return {name: name in self.watchers and self.watchers[name].is_live(now) for name in found}

    def hosts(self, now: float) -> tuple[Host, ...]:
        """The hosts of all live watchers."""
        found: dict[Address, Host] = {}
        for watcher in self.live(now):
            for host in watcher.hosts or ():
                found.setdefault(host.address, host)
        return tuple(found.values())

    def forget(self, address: Address) -> None:
        """The host is not reported any more. If it is again, all that is known of it is new."""
        self._newest.pop(address, None)
        self._known.pop(address, None)
        for watcher in self.watchers.values():
            watcher.reports.pop(address, None)

    def memories(self) -> list[Memory]:
        """What watchers remember, since the last call."""
        found, self._memories = self._memories, []
        return found

    def due(self, now: float) -> list[Counted]:
        """The pending failures that count now."""
        pending = dict.fromkeys(address for address, _, _ in self._pending(now))
        return [counted for address in pending for counted in self._failures(address, now)]

    def next(self, now: float) -> float:
        """When a pending failure may count, or a watcher is not live any more; infinite: never."""
        live = self.live(now)
        times = [watcher.sent + SILENCE for watcher in live]
        for address, failure, of in self._pending(now):
            times += [_outweighs(w, address, failure) for w in live if w is not of]
        return min((time for time in times if time > now), default=inf)

    def count_of(self, address: Address, now: float) -> int:
        """The number of live watchers that report this host."""
        return sum(address in watcher.reports for watcher in self.live(now))

    def watchers_of(self, address: Address, now: float) -> tuple[tuple[str, str | None], ...]:
        """What the live watchers report of a host, if they disagree: the error, or None."""
        found = [
            (self.label(watcher), None if report.failure is None else report.failure.message)
            for watcher in self.live(now)
            if (report := watcher.reports.get(address)) is not None
        ]
        return tuple(found) if len({error is None for _, error in found}) > 1 else ()

    def label(self, watcher: Watcher) -> str:
        """Its name; of several with the same name, with the source."""
        same = [source for source, w in self.watchers.items() if w.name == watcher.name]
        if len(same) == 1:
            return watcher.name
        source = next(source for source in same if self.watchers[source] is watcher)
        return f"{watcher.name} ({source})"

    def _place(self, source: str) -> tuple[int, str]:
        return self._order.get(source, len(self._order)), source

    def _remember(self, watcher: Watcher, memory: Memory | None) -> None:
        """Note what the watcher has not reported before: hosts may have refuted the rest."""
        before, watcher.memory = watcher.memory, memory or watcher.memory
        if memory is None or memory == before:
            return
        if before is not None and (before.system_identifier, before.newest_timeline) == (
            memory.system_identifier,
            memory.newest_timeline,
        ):
            memory = replace(memory, evidence=memory.evidence - before.evidence)
        if memory.evidence:
            self._memories.append(memory)

    def _add(
        self,
        watcher: Watcher,
        address: Address,
        look: Look,
        value: Observation | Failure | Position,
        at: float,
    ) -> list[Counted]:
        report = watcher.reports.setdefault(address, _Report())
        if value.finished <= report.last + _ROUNDING:
            return []  # known, from the document before
        theirs, report.last = value, value.finished
        started = min(at, watcher.clock.earliest(value.started))
        finished = min(at, watcher.clock.latest(value.finished))
        value = replace(value, started=started, finished=max(started, finished))
        if isinstance(value, Failure):
            report.failure, report.look = value, look
            newest, known = self._newest.get(address), list[Counted]()
            if newest is not None and newest.started >= value.started:
                known = self._take_known(address)
            else:
                report.pending = [*report.pending[: _PENDING - 1], (look, value)]
            # Others may have waited for the opinion of this watcher.
            return known + self._failures(address, at)
        if isinstance(value, Observation):
            width = (value.finished - value.started) - (theirs.finished - theirs.started)
            value = replace(value, uncertainty=max(0.0, width))
            report.seen, report.failure, report.pending = value, None, []
        if not self._is_newer(watcher, address, theirs, value):
            return self._take_known(address)
        self._known.pop(address, None)
        self._newest[address] = _Newest(watcher, theirs.finished, value.started, value.finished)
        if isinstance(value, Observation):
            value = self._combined(address, value, at)
            self._refute(address, value)
        return [Counted(address, self.label(watcher), look, value)]

    def _take_known(self, address: Address) -> list[Counted]:
        """The check from before that is newer than that of a watcher, once."""
        known = self._known.pop(address, None)
        return [] if known is None else [known]

    def _is_newer(
        self,
        watcher: Watcher,
        address: Address,
        theirs: Observation | Failure | Position,
        ours: Observation | Position,
    ) -> bool:
        newest = self._newest.get(address)
        if newest is None:
            return True
        if newest.watcher is watcher:
            return theirs.started >= newest.theirs - _ROUNDING
        return ours.started >= newest.finished

    def _combined(self, address: Address, seen: Observation, now: float) -> Observation:
        """With what depends on the watcher and not on the host alone.

        Otherwise these facts would change with each document: the addresses that its name resolves
        to, and whether a login was accepted lately.
        """
        known = [
            report.seen
            for watcher in self.live(now)
            if (report := watcher.reports.get(address)) is not None
            and report.seen is not None
            and report.failure is None
        ]
        addresses = seen.addresses.union(*(other.addresses for other in known))
        if any(other.admits for other in known):
            return replace(seen, addresses=addresses, admits=True, refusal=None)
        refused = next((other for other in known if other.admits is False), seen)
        return replace(seen, addresses=addresses, admits=refused.admits, refusal=refused.refusal)

    def _refute(self, address: Address, seen: Observation) -> None:
        """Failures from before this success never count; later ones may count again."""
        for watcher in self.watchers.values():
            report = watcher.reports.get(address)
            if report is not None and report.failure is not None:
                later = [pending for pending in report.pending if pending[1].started > seen.started]
                if not later and report.failure.started > seen.started:
                    later = [(report.look, report.failure)]
                report.pending = later

    def _failures(self, address: Address, now: float) -> list[Counted]:
        """The failures of a host that count now, and have not before."""
        counted = []
        live = self.live(now)
        for watcher in live:
            report = watcher.reports.get(address)
            if report is None or not report.pending:
                continue
            others = [other for other in live if other is not watcher]
            pending = []
            for look, failure in report.pending:
                if any(_outweighs(other, address, failure) > now for other in others):
                    pending.append((look, failure))
                else:
                    counted.append(Counted(address, self.label(watcher), look, failure))
            report.pending = pending
        return sorted(counted, key=lambda result: result.value.started)

    def _pending(self, now: float) -> Iterator[tuple[Address, Failure, Watcher]]:
        for watcher in self.live(now):
            for address, report in watcher.reports.items():
                for _, failure in report.pending:
                    yield address, failure, watcher


def _outweighs(watcher: Watcher, address: Address, failure: Failure) -> float:
    """Until when a success of this watcher outweighs a failure of another one."""
    report = watcher.reports.get(address)
    if report is None or report.seen is None or report.failure is not None:
        return -inf
    live_until = watcher.sent + SILENCE
    if report.seen.started >= failure.started:
        return live_until
    return min(live_until, report.seen.started + watcher.interval + _GRACE)
