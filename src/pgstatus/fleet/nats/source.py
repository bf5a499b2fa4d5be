"""A relay's side: the evidence of the watchers of one cluster, from their updates of the bucket.

The age of evidence is known if the clock of its watcher is: a request for the time shows that the
response was made after the request. The clock of a process tells the age of every document of this
process, no matter for how long a server, a buffer or the bucket has kept it. Documents of a process
that does not respond, which is all that the bucket may hold, have an unknown age: their hosts and
their memory are used, not their results.
"""

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import NamedTuple

from nats import errors
from nats.aio.msg import Msg

from pgstatus import clock
from pgstatus.core.state import Look
from pgstatus.fleet.clocks import DRIFT
from pgstatus.fleet.document import Document, DocumentError, Result, decode
from pgstatus.fleet.evidence import SILENCE
from pgstatus.fleet.nats.client import OneClient, reason
from pgstatus.fleet.nats.connection import Connection, connection_to
from pgstatus.fleet.nats.lines import Lines
from pgstatus.fleet.nats.subjects import Subjects
from pgstatus.fleet.source import Receiver
from pgstatus.settings.nats import Nats

log = logging.getLogger(__name__)

_TICK = 1.0
_API = 2.0
"""Seconds for a request to JetStream."""
_ASK_EVERY = 30.0
"""Seconds between two requests for the times of the watchers."""
_FAST = 0.25
"""Seconds. Evidence appears older by the time that the response took, so a slow one is repeated."""
_SPREAD = 0.5
"""Many relays notice at once that a watcher has started: they ask within so many seconds."""
_LATE = 1.0
"""Seconds. Evidence that is older when it arrives was delayed, or a clock has jumped."""
_WATCHERS = 100
_FORGET = 600.0
"""Seconds after which a silent watcher is forgotten."""
_CLOCKS = 200
"""Processes whose clocks are kept."""
_POSITIONS_EVERY = 0.05


@dataclass(slots=True)
class _Watcher:
    """One key of the bucket."""

    source: str
    document: Document
    at: float
    """When it arrived."""
    is_live: bool = True
    """It arrived as an update; otherwise it is what the bucket held."""
    former: str = ""
    """The epoch before the present one."""
    lost: bool = False
    has_age: bool = False
    """The document was passed on with its age."""
    asked: int = 0
    """The number of requests for its time since it responded fast enough."""


class _Clock(NamedTuple):
    """What a response of a watcher has shown."""

    offset: float
    """Our clock minus its clock, at least."""
    at: float


class NatsSource:
    """Follows all watchers of a cluster."""

    name = "nats"

    def __init__(self, nats: Nats, cluster: str) -> None:
        self._nats = nats
        self._subjects = Subjects(nats.bucket, cluster)
        self._receiver: Receiver
        self._connection: Connection
        self._client: OneClient | None = None
        self._answers = ""
        """The subject of responses, without the number of the request: servers may permit one
        response for each subject."""
        self._asked = 0
        self._watchers: dict[str, _Watcher] = {}
        self._clocks: dict[str, _Clock] = {}
        """Of the epochs."""
        self._ask_at, self._asked_at = inf, -inf
        self._positions_until = self._positions_sent = -inf
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_lost = False
        """It has been reported that no server can be reached."""
        self._wake = asyncio.Event()
        self._lines = Lines(log)

    async def run(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._connection = connection_to(self._nats)
        async with self._connection.used_by(self):
            while True:
                expected = clock.now() + _TICK
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(_TICK, max(0.0, self._ask_at - clock.now()))):
                        await self._wake.wait()
                now = clock.now()
                if now >= self._ask_at:
                    self._ask(now)
                # After a pause of this process, what has arrived meanwhile is read first.
                if now - expected < _TICK:
                    self._note_silence(now)

    def request_positions(self, seconds: float) -> None:
        now = clock.now()
        until = now + seconds
        if self._client is None or until <= self._positions_until:
            return
        if now - self._positions_sent < _POSITIONS_EVERY and now < self._positions_until:
            return  # the next request is soon, and positions are checked until then
        self._positions_until, self._positions_sent = until, now
        self._send(self._client.publish(self._subjects.positions, f"{seconds:.3f}".encode()))

    async def use(self, client: OneClient) -> None:
        self._answers = client.new_inbox()
        handlers = {f"{self._answers}.*": self._answered, self._subjects.values: self._updated}
        async with client.subscribed(handlers):
            self._client, self._is_lost = client, False
            self._ask(clock.now())
            try:
                await self._read_bucket(client)
            except (errors.Error, TimeoutError) as error:
                # Updates arrive nevertheless.
                self._lines.warning(f"bucket {self._nats.bucket}: cannot read it: {reason(error)}")
            await asyncio.Event().wait()

    def disconnected(self, text: str) -> None:
        self._client, self._ask_at = None, inf
        self._positions_until = -inf
        for watcher in self._watchers.values():
            self._lose(watcher, text)
        if not self._watchers and not self._is_lost:
            self._is_lost = True
            self._receiver.lost(self.name, text)

    async def _read_bucket(self, client: OneClient) -> None:
        jetstream, stream = client.jetstream(timeout=_API), self._subjects.stream
        info = await jetstream.stream_info(stream, subjects_filter=self._subjects.values)
        for subject in sorted(info.state.subjects or ())[:_WATCHERS]:
            found = await jetstream.get_last_msg(
                stream, subject, direct=bool(info.config.allow_direct)
            )
            if found.data and not (found.headers or {}).get("KV-Operation"):
                self._arrived(subject, found.data, is_live=False)

    async def _updated(self, message: Msg) -> None:
        if message.data and not (message.headers or {}).get("KV-Operation"):
            self._arrived(message.subject, message.data, is_live=True)

    def _arrived(self, subject: str, data: bytes, *, is_live: bool) -> None:
        key, now = self._subjects.watcher_of(subject), clock.now()
        try:
            document = decode(data)
        except DocumentError as error:
            self._lines.warning(f"{subject}: {error}")
            return
        watcher = self._watchers.get(key)
        if watcher is None:
            if len(self._watchers) >= _WATCHERS:
                self._lines.warning(f"{subject}: more than {_WATCHERS} watchers")
                return
            watcher = _Watcher(f"{self.name}:{key}", document, now, is_live)
            self._watchers[key] = watcher
        elif not is_live and watcher.is_live:
            return  # the update is newer
        elif document.watcher != watcher.document.watcher:
            if document.watcher == watcher.former and now - watcher.at < SILENCE:
                self._lines.warning(f"{subject}: several watchers have this name (nats_name)")
            watcher.former = watcher.document.watcher
        watcher.document, watcher.at, watcher.is_live = document, now, is_live
        self._deliver(watcher, now)

    def _deliver(self, watcher: _Watcher, now: float) -> None:
        document = watcher.document
        known = self._clocks.get(document.watcher)
        if known is not None and document.sent + known.offset > now:
            # Its clock went forward, or ours was stopped.
            del self._clocks[document.watcher]
            known = None
        watcher.lost, watcher.has_age = False, known is not None
        if known is None:
            self._ask_soon(watcher, now)
            shown = document if watcher.is_live else _without_results(document)
            self._receiver.received(watcher.source, shown, now)
        else:
            made = document.sent + known.offset - (now - known.at) * DRIFT
            if now - made > _LATE:
                self._ask_soon(watcher, now)
            self._receiver.received(watcher.source, document, now, after=made)

    def _note_silence(self, now: float) -> None:
        for key, watcher in list(self._watchers.items()):
            if now - watcher.at > SILENCE:
                self._lose(watcher, f"no evidence for {SILENCE:g} s")
            if now - watcher.at > _FORGET:
                del self._watchers[key]
                self._clocks.pop(watcher.document.watcher, None)
        if all(watcher.lost for watcher in self._watchers.values()):
            self._connection.is_useless(self, "no evidence arrives")
        else:
            self._connection.is_useful(self)

    def _lose(self, watcher: _Watcher, text: str) -> None:
        if not watcher.lost:
            watcher.lost = True
            self._receiver.lost(watcher.source, text)

    def _ask_soon(self, watcher: _Watcher, now: float) -> None:
        pause = random.uniform(0, _SPREAD) if self._clocks else 0.0  # noqa: S311
        if watcher.asked:
            pause = self._asked_at + min(2.0**watcher.asked, _ASK_EVERY) - now
        if now + pause < self._ask_at:
            self._ask_at = now + pause
            self._wake.set()

    def _ask(self, now: float) -> None:
        if self._client is None:
            return
        self._asked_at = now
        self._asked += 1
        self._ask_at = now + _ASK_EVERY * random.uniform(0.8, 1)  # noqa: S311
        for watcher in self._watchers.values():
            watcher.asked += 1
        subject, answers = self._subjects.clock, f"{self._answers}.{self._asked}"
        self._send(self._client.publish(subject, repr(now).encode(), answers))

    async def _answered(self, message: Msg) -> None:
        """A watcher has responded with its time."""
        now = clock.now()
        try:
            answer = json.loads(message.data[:1000])
            epoch, theirs, asked = answer["watcher"], answer["now"], float(answer["asked"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return
        if not isinstance(epoch, str) or not isinstance(theirs, int | float):
            return
        if not isfinite(theirs) or not 0 <= now - asked < SILENCE:
            return
        self._clocks.pop(epoch, None)
        self._clocks[epoch] = _Clock(asked - theirs, asked)
        if len(self._clocks) > _CLOCKS:
            del self._clocks[next(iter(self._clocks))]  # the one that answered longest ago
        for watcher in self._watchers.values():
            if watcher.document.watcher == epoch:
                if now - asked < _FAST:
                    watcher.asked = 0
                if not watcher.has_age:
                    self._deliver(watcher, now)

    def _send(self, publication: Coroutine[None, None, None]) -> None:
        async def send() -> None:
            try:
                async with asyncio.timeout(_API):
                    await publication
            except (errors.Error, OSError, TimeoutError) as error:
                log.debug("NATS: not sent: %s", reason(error))

        task = asyncio.get_running_loop().create_task(send())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _without_results(document: Document) -> Document:
    """The hosts and the memory."""
    hosts = dict.fromkeys(result.host for result in document.results)
    results = tuple(Result(host, Look.ROUND, None) for host in hosts)
    return replace(document, results=results, ready=False)
