"""One configuration of one cluster in use: its monitor, its latest snapshot, and its service."""

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Protocol

from pgstatus import clock
from pgstatus.api.evidence import EvidenceFeed
from pgstatus.api.feeds import Epoch, Feeds
from pgstatus.api.service import Service
from pgstatus.core.bucket import Bucket
from pgstatus.core.changes import Update
from pgstatus.core.schedule import Schedule
from pgstatus.core.snapshot import Failure, Host, Observation
from pgstatus.core.state import Memory, State
from pgstatus.core.watching import condition
from pgstatus.fleet.direct import ChecksOnly, Direct
from pgstatus.fleet.evidence import Condition, Evidence
from pgstatus.fleet.relay import Relay
from pgstatus.fleet.sources import sources
from pgstatus.monitor.latest import Latest
from pgstatus.monitor.monitor import Monitor
from pgstatus.monitor.prober import ProbeFactory
from pgstatus.monitor.results import LatestResults
from pgstatus.monitor.thread import MonitoringThread
from pgstatus.monitor.waiters import Waiters
from pgstatus.settings.cluster import Settings
from pgstatus.settings.target import Target
from pgstatus.telemetry.history import History

if TYPE_CHECKING:  # an extra
    from pgstatus.fleet.nats.publisher import NatsPublisher

MAX_WAITING = 1024
"""Requests that may wait for a replica of one cluster at the same time; further ones are answered
at once.
"""


class Owner(Protocol):
    """What a generation reports to, in the monitoring thread."""

    def published(self, generation: "Generation", update: Update) -> None:
        """A change."""

    def checked(
        self, generation: "Generation", host: Host, result: Observation | Failure, seconds: float
    ) -> None:
        """The result of one check that took ``seconds``."""

    def recorded(self, generation: "Generation") -> None:
        """The result of a check is part of the evidence."""

    def heartbeat(self, generation: "Generation") -> None:
        """The monitor is running; at least once a second."""

    def failed(self, generation: "Generation") -> None:
        """A defect has ended the monitor."""


class Generation:
    """From one reload to the next."""

    def __init__(
        self,
        settings: Settings,
        owner: Owner,
        thread: MonitoringThread,
        *,
        history: History,
        epoch: Epoch,
        before: State | None = None,
        memory: Memory | None = None,
    ) -> None:
        """``before``: the state of the previous generation; ``memory``: of the previous process."""
        self.settings = settings
        self._owner = owner
        self._thread = thread
        self.latest = Latest(settings.hosts, settings.rules)
        self.waiters = Waiters(MAX_WAITING)
        self.ready_since = inf
        self._results = LatestResults(settings.hosts, self._recorded)
        self._evidence = None if settings.fleet else self._make_evidence()
        self._publisher: NatsPublisher | None = None
        self.monitor = self._make_monitor(before, memory)
        self.feeds = Feeds(
            self.latest.read,
            settings.place,
            epoch,
            limits_fallback=settings.fallback_per_s is not None,
        )
        self.service = Service(
            read=self.latest.read,
            now=clock.now,
            thresholds=settings.thresholds,
            place=settings.place,
            min_lsn_wait=settings.min_lsn_wait,
            feeds=self.feeds,
            history=history,
            cluster=settings.cluster_name,
            fallback_bucket=None
            if settings.fallback_per_s is None
            else Bucket(settings.fallback_per_s),
            evidence=self._make_feed(),
            request_positions=self.request_positions,
        )

    def restart(self) -> None:
        """Start another monitor after a failure, with what the failed one knew.

        It reports no master before all hosts were checked. RuntimeError: no thread can be started.
        """
        self.monitor.stop()
        self.monitor = self._make_monitor(self.monitor.state, None)
        self.monitor.start()

    def publish_evidence(self) -> None:
        """Publish the evidence through NATS, if that is configured: the generation is in use."""
        nats = self.settings.nats
        if nats is None or self._evidence is None or self._publisher is not None:
            return
        from pgstatus.fleet.nats.publisher import NatsPublisher  # noqa: PLC0415  # an extra

        self._publisher = NatsPublisher(
            self._thread,
            nats,
            self.settings.cluster_name or "",
            self._evidence,
            self.request_positions,
            name=self.settings.name,
        )
        self._publisher.start()

    def stop(self) -> None:
        """End the monitor soon, and the requests and streams that wait for it now."""
        if self._publisher is not None:
            self._publisher.stop()
        self.waiters.close()
        self.feeds.close()
        self.monitor.stop()

    def request_positions(self, seconds: float) -> None:
        """Check positions for so long."""
        self.monitor.request_positions(seconds)

    def publish(self, update: Update) -> None:
        """Of the monitor's `Sink`."""
        if self._publisher is not None and condition(update.before) != condition(update.after):
            self._publisher.changed()
        self._owner.published(self, update)

    def checked(self, host: Host, result: Observation | Failure, seconds: float) -> None:
        """Of the monitor's `Sink`."""
        self._owner.checked(self, host, result, seconds)

    def _make_monitor(self, before: State | None, memory: Memory | None) -> Monitor | Relay:
        settings = self.settings
        if settings.fleet is None:
            return self._checks(self.latest, self.waiters, self._results, before, memory)
        return Relay(
            self._thread,
            sources=sources(settings.fleet, settings.cluster_name or ""),
            direct=self._direct() if settings.fleet.fallback_direct else None,
            latest=self.latest,
            waiters=self.waiters,
            rules=settings.rules,
            sink=self,
            heartbeat=lambda: self._owner.heartbeat(self),
            on_failure=lambda error: self._owner.failed(self),
            before=before,
            memory=memory,
            cluster=settings.name,
        )

    def _direct(self) -> Direct:
        settings = self.settings

        def make(results: LatestResults) -> Monitor:
            latest = Latest(settings.hosts, settings.rules)
            return self._checks(latest, Waiters(0), results, is_fallback=True)

        return Direct(settings.hosts, make, settings.rules)

    def _checks(
        self,
        latest: Latest,
        waiters: Waiters,
        results: LatestResults,
        before: State | None = None,
        memory: Memory | None = None,
        *,
        is_fallback: bool = False,
    ) -> Monitor:
        settings = self.settings
        return Monitor(
            self._thread,
            hosts=settings.hosts,
            probes=probes(settings.targets),
            latest=latest,
            waiters=waiters,
            rules=settings.rules,
            schedule=Schedule(settings.rules.sleep, settings.failover_sleep),
            sink=ChecksOnly(self) if is_fallback else self,
            heartbeat=(lambda: None) if is_fallback else (lambda: self._owner.heartbeat(self)),
            on_failure=lambda error: self._owner.failed(self),
            before=before,
            memory=memory,
            results=results,
            quiet=is_fallback,
            cluster=settings.name,
        )

    def _recorded(self) -> None:
        if self._publisher is not None:
            self._publisher.recorded()
        self._owner.recorded(self)

    def _make_evidence(self) -> Evidence:
        def known() -> Condition:
            state = self.monitor.state
            return Condition(state.memory, state.ready)

        return Evidence(self._results, known, self.settings.rules.sleep)

    def _make_feed(self) -> EvidenceFeed | None:
        if self._evidence is None:
            return None
        return EvidenceFeed(self._evidence, self.latest.read, lambda: self.feeds.closed)


def probes(targets: Sequence[Target]) -> ProbeFactory:
    """The probes of these hosts."""
    # A relay does not load libpq.
    from pgstatus.monitor.probe import Probe  # noqa: PLC0415

    return lambda index, on_lost: Probe(targets[index], on_lost)
