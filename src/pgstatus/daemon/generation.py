"""One configuration in use: its monitor, its latest snapshot, and its API."""

from collections.abc import Callable, Mapping
from math import inf
from typing import Protocol

from pgstatus import clock
from pgstatus.api import Application, Service, create_app
from pgstatus.api.evidence import EvidenceFeed
from pgstatus.api.feeds import Epoch, Feeds
from pgstatus.core.bucket import Bucket
from pgstatus.core.changes import Update
from pgstatus.core.schedule import Schedule
from pgstatus.core.snapshot import Failure, Host, Observation
from pgstatus.core.state import Memory, State
from pgstatus.fleet.evidence import Condition, Evidence
from pgstatus.monitor.latest import Latest
from pgstatus.monitor.monitor import Monitor
from pgstatus.monitor.probe import Probe
from pgstatus.monitor.results import LatestResults
from pgstatus.monitor.waiters import Waiters
from pgstatus.settings.load import Settings
from pgstatus.telemetry.history import History

MAX_WAITING = 1024
"""Requests that may wait for a replica at the same time; further ones are answered at once."""


class Owner(Protocol):
    """What a generation reports to, in its monitoring thread."""

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

    def failed(self, generation: "Generation", error: BaseException) -> None:
        """A defect has ended the monitoring thread."""


class Generation:
    """From one reload to the next."""

    def __init__(
        self,
        settings: Settings,
        owner: Owner,
        *,
        history: History,
        expose: Callable[["Generation", str], tuple[str, bytes]],
        reloads: Callable[[], str],
        report: Callable[[], Mapping[str, object]],
        epoch: Epoch,
        before: State | None = None,
        memory: Memory | None = None,
    ) -> None:
        """``before``: the state of the previous generation; ``memory``: of the previous process."""
        self.settings = settings
        self._owner = owner
        self.latest = Latest(settings.hosts, settings.rules)
        self.waiters = Waiters(MAX_WAITING)
        self.ready_since = inf
        self._results = LatestResults(settings.hosts, lambda: owner.recorded(self))
        self.monitor = self._monitor(before, memory)
        self.feeds = Feeds(
            self.latest.read,
            settings.place,
            epoch,
            limits_fallback=settings.fallback_per_s is not None,
        )
        self.application = Application(
            create_app(
                Service(
                    read=self.latest.read,
                    now=clock.now,
                    thresholds=settings.thresholds,
                    place=settings.place,
                    min_lsn_wait=settings.min_lsn_wait,
                    tokens=settings.tokens,
                    feeds=self.feeds,
                    history=history,
                    expose=lambda accept: expose(self, accept),
                    reloads=reloads,
                    cluster=settings.cluster_name,
                    documentation=settings.docs_url,
                    report=report,
                    fallback_bucket=None
                    if settings.fallback_per_s is None
                    else Bucket(settings.fallback_per_s),
                    evidence=self._evidence(),
                    request_positions=self.request_positions,
                )
            )
        )

    def restart(self) -> None:
        """Start another monitoring thread after a failure, with what the failed one knew.

        It reports no master before all hosts were checked. RuntimeError: no thread can be started.
        """
        failed = self.monitor
        failed.stop(0)
        self.monitor = self._monitor(failed.state, None)
        self.monitor.start()

    def stop(self, timeout: float) -> None:
        """End the monitoring thread, and wait ``timeout`` seconds for it at most."""
        self.waiters.close()
        self.feeds.close()
        self.monitor.stop(timeout)

    def request_positions(self, seconds: float) -> None:
        """Check positions for so long."""
        self.monitor.request_positions(seconds)

    def publish(self, update: Update) -> None:
        """Of the monitor's `Sink`."""
        self._owner.published(self, update)

    def checked(self, host: Host, result: Observation | Failure, seconds: float) -> None:
        """Of the monitor's `Sink`."""
        self._owner.checked(self, host, result, seconds)

    def _monitor(self, before: State | None, memory: Memory | None) -> Monitor:
        settings = self.settings
        return Monitor(
            hosts=settings.hosts,
            probes=lambda index, on_lost: Probe(settings.targets[index], on_lost),
            latest=self.latest,
            waiters=self.waiters,
            rules=settings.rules,
            schedule=Schedule(settings.rules.sleep, settings.failover_sleep),
            sink=self,
            heartbeat=lambda: self._owner.heartbeat(self),
            on_failure=lambda error: self._owner.failed(self, error),
            before=before,
            memory=memory,
            results=self._results,
        )

    def _evidence(self) -> EvidenceFeed:
        def condition() -> Condition:
            state = self.monitor.state
            return Condition(state.memory, state.ready)

        evidence = Evidence(self._results, condition, self.settings.rules.sleep)
        return EvidenceFeed(evidence, self.latest.read, lambda: self.feeds.closed)
