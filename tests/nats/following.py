"""A source in a thread, and everything that its receiver was given."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf
from typing import NamedTuple, Self

from pgstatus import clock
from pgstatus.core.snapshot import Observation
from pgstatus.fleet.document import Document
from pgstatus.fleet.nats.source import NatsSource
from pgstatus.settings.nats import Nats, read_nats
from pgstatus.settings.reader import Reader


def nats_settings(environ: Mapping[str, str]) -> Nats:
    """The settings of an environment."""
    reader = Reader(environ, [])
    settings = read_nats(reader, "test")
    reader.finish()
    assert not reader.problems, reader.problems
    assert settings is not None
    return settings


class Received(NamedTuple):
    """One call of `Receiver.received`."""

    source: str
    document: Document
    at: float
    after: float

    @property
    def lsn(self) -> int | None:
        """The write position of the first host; None: without results."""
        value = self.document.results[0].value
        return value.lsn if isinstance(value, Observation) else None


class Following:
    """A `NatsSource` that runs; the receiver is this object."""

    def __init__(self, cluster: str, settings: Nats) -> None:
        self._source = NatsSource(settings, cluster)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, daemon=True)
        self.received_all: list[Received] = []
        self.lost_all: list[tuple[str, str, float]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _main(self) -> None:
        async def run() -> None:
            self._task = asyncio.create_task(self._source.run(self))
            await asyncio.wait([self._task])

        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(run())

    def received(self, source: str, document: Document, at: float, *, after: float = -inf) -> None:
        self.received_all.append(Received(source, document, at, after))

    def lost(self, source: str, reason: str) -> None:
        self.lost_all.append((source, reason, clock.now()))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within this block the event loop does not run, as in a process that was stopped."""
        begun, ended = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            ended.wait()

        self._loop.call_soon_threadsafe(wait)
        begun.wait()
        try:
            yield
        finally:
            ended.set()

    def request_positions(self, seconds: float) -> None:
        self._loop.call_soon_threadsafe(self._source.request_positions, seconds)

    def of(self, watcher: str) -> list[Received]:
        """What was received of one watcher."""
        return [call for call in self.received_all if call.source == f"nats:{watcher}"]

    def last(self, watcher: str) -> Received | None:
        calls = self.of(watcher)
        return calls[-1] if calls else None

    def has_age(self, watcher: str) -> bool:
        """The latest evidence of the watcher has arrived with its age."""
        last = self.last(watcher)
        return last is not None and last.after > -inf

    def is_live(self, watcher: str, since: float) -> bool:
        """Evidence that was made after the moment ``since`` has arrived."""
        last = self.last(watcher)
        return last is not None and last.after > since

    def is_lost(self, watcher: str) -> bool:
        """It was reported as lost after its latest evidence."""
        last = self.last(watcher)
        return any(
            source == f"nats:{watcher}" and (last is None or at >= last.at)
            for source, _, at in self.lost_all
        )
