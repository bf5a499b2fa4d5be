"""A watcher's side: puts the evidence of one cluster into the bucket, and answers relays."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from math import inf, isfinite

from nats import errors
from nats.aio.msg import Msg
from nats.js.api import StorageType
from nats.js.errors import APIError, BadRequestError, NotFoundError

from pgstatus import clock
from pgstatus.fleet.document import encode
from pgstatus.fleet.evidence import BATCH, INTERVAL, WATCHER, Evidence
from pgstatus.fleet.nats.client import OneClient, reason
from pgstatus.fleet.nats.connection import Connection, connection_to
from pgstatus.fleet.nats.lines import Lines
from pgstatus.fleet.nats.subjects import Subjects
from pgstatus.monitor.thread import MonitoringThread
from pgstatus.settings.nats import Nats
from pgstatus.telemetry import logs

log = logging.getLogger(__name__)

_SPACING = 0.01
"""Seconds between two documents at least."""
_BACKLOG = 256 * 1024
"""Bytes that the server has not accepted yet; nothing is added to more than that."""
_SEND = 2.0
_API = 2.0
"""Seconds for a request to JetStream."""
_UNSTORED = 3.0
"""Seconds without an acknowledgement after which the bucket is examined."""
_TTL = 86_400.0
"""Seconds after which the bucket forgets a watcher. The memory of its cluster, the newest timeline,
is useful to a relay that starts while no watcher runs; the name of a former pod is not."""
_LONGEST_POSITIONS = 60.0
_AFTER_DEFECT = 1.0
_NAME_IN_USE = 10058
"""The error code of JetStream for a stream that exists with another configuration."""


class NatsPublisher:
    """Publishes a complete document at each change, with other results, and as a sign of life."""

    def __init__(
        self,
        thread: MonitoringThread,
        nats: Nats,
        cluster: str,
        evidence: Evidence,
        positions: Callable[[float], None] = lambda seconds: None,
        *,
        name: str = "",
    ) -> None:
        """``positions`` is called if relays request checks of the replay positions for so many
        seconds; log messages are those of the cluster ``name``.
        """
        self._name = name
        self._thread = thread
        self._nats = nats
        self._subjects = Subjects(nats.bucket, cluster)
        self._evidence = evidence
        self._positions = positions
        self._connection: Connection
        self._client: OneClient | None = None
        self._acknowledgements = ""
        """The subject on which JetStream acknowledges."""
        self._published_at = -inf
        self._changed = False
        self._version = 0
        """That was published last."""
        self._recorded_at: float | None = None
        """The first result that is not published yet."""
        self._waiting_since: float | None = None
        """The first document without an acknowledgement was published then."""
        self._stores = True
        self._wake, self._doubt = asyncio.Event(), asyncio.Event()
        self._lines = Lines(log)
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Publish from now on. RuntimeError: no thread can be started."""
        self._thread.run(self._main)

    def stop(self) -> None:
        """Publish nothing more. Safe in any thread."""
        self._stopping = True
        self._thread.call(lambda: self._task and self._task.cancel())

    def changed(self) -> None:
        """What the watcher knows besides the results changed. Called on the event loop."""
        self._changed = True
        self._wake.set()

    def recorded(self) -> None:
        """There is another result. Called on the event loop."""
        if self._recorded_at is None:
            self._recorded_at = clock.now()
            self._wake.set()
        elif self._is_urgent:
            self._wake.set()

    async def _main(self) -> None:
        logs.set_cluster(self._name)
        self._task = asyncio.current_task()
        while not self._stopping:
            try:
                await self._run()
            except Exception:
                # The checks are not concerned.
                log.exception("NATS: the evidence cannot be published")
                await asyncio.sleep(_AFTER_DEFECT)

    async def _run(self) -> None:
        self._connection = connection_to(self._nats)
        async with self._connection.used_by(self):
            while True:
                await self._due()
                await self._publish()

    async def use(self, client: OneClient) -> None:
        self._acknowledgements = client.new_inbox()
        handlers = {
            self._acknowledgements: self._acknowledged,
            self._subjects.clock: self._tell_time,
            self._subjects.positions: self._request_positions,
        }
        async with client.subscribed(handlers):
            self._client, self._waiting_since = client, None
            self.changed()
            while True:
                self._doubt.clear()
                await self._examine(client)
                await asyncio.sleep(_UNSTORED)
                await self._doubt.wait()

    def disconnected(self, text: str) -> None:
        self._client = None

    @property
    def _is_urgent(self) -> bool:
        return self._changed or self._evidence.urgent > self._version

    async def _due(self) -> None:
        """Wait until a document is to be published."""
        while True:
            due = self._published_at + (_SPACING if self._is_urgent else INTERVAL)
            if self._recorded_at is not None:
                due = min(due, self._recorded_at + BATCH)
            now = clock.now()
            if due <= now and self._client is not None:
                return
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL if due <= now else due - now):
                    await self._wake.wait()

    async def _publish(self) -> None:
        self._changed, self._recorded_at, self._published_at = False, None, clock.now()
        client = self._client
        if client is None or client.pending_data_size > _BACKLOG:
            return
        self._version, document = self._evidence.document()
        if self._waiting_since is None:
            self._waiting_since = self._published_at
        elif self._is_unstored:
            self._doubt.set()
            self._connection.is_useless(self, "it does not store evidence")
        if self._nats.name is not None:
            document = replace(document, name=self._nats.name)
        subject = self._subjects.value_of(document.name)
        try:
            async with asyncio.timeout(_SEND):
                await client.publish(subject, encode(document), reply=self._acknowledgements)
        except errors.MaxPayloadError:
            self._lines.warning(
                f"{subject}: the evidence is larger than max_payload of the server, "
                f"{client.max_payload} bytes"
            )
        except (errors.Error, OSError, TimeoutError) as error:
            log.debug("NATS: not published: %s", reason(error))

    async def _acknowledged(self, message: Msg) -> None:
        if not message.data:  # no responders: there is no bucket
            return
        try:
            answer = json.loads(message.data)
            error = answer.get("error")
        except (ValueError, AttributeError, RecursionError):
            return
        if error is not None:
            text = error.get("description") if isinstance(error, dict) else error
            self._unstored(f"bucket {self._nats.bucket}: evidence is not stored: {text}")
            return
        self._waiting_since = None
        self._connection.is_useful(self)
        if not self._stores:
            self._stores = True
            self._lines.info(f"bucket {self._nats.bucket}: evidence is stored")

    def _unstored(self, text: str) -> None:
        self._stores = False
        self._lines.warning(f"{text} (relays that are connected receive it)")

    @property
    def _is_unstored(self) -> bool:
        since = self._waiting_since
        return since is not None and clock.now() - since > _UNSTORED

    async def _examine(self, client: OneClient) -> None:
        """Create the bucket if it is missing; log why evidence is not stored."""
        bucket, jetstream = self._nats.bucket, client.jetstream(timeout=_API)
        try:
            try:
                await jetstream.stream_info(self._subjects.stream)
            except NotFoundError:
                await jetstream.create_key_value(
                    bucket=bucket,
                    description="evidence of pg-status",
                    history=1,
                    ttl=_TTL,
                    storage=StorageType.MEMORY,
                    replicas=self._nats.replicas,
                    direct=True,
                )
                self._lines.info(f"bucket {bucket}: created, replicas: {self._nats.replicas}")
        except BadRequestError as error:
            if error.err_code != _NAME_IN_USE:  # another watcher was faster
                self._unstored(f"bucket {bucket}: cannot create it: {error.description}")
        except APIError as error:
            self._unstored(f"bucket {bucket}: {error.description or 'JetStream is not available'}")
        except errors.TimeoutError:
            self._unstored(f"bucket {bucket}: no response of JetStream within {_API:g} s")
        else:
            if self._is_unstored:
                self._unstored(f"bucket {bucket}: evidence is not acknowledged")

    async def _tell_time(self, message: Msg) -> None:
        """The relay knows when it asked, so that our time is between then and the response."""
        if message.reply and len(message.data) <= 100:
            asked = message.data.decode(errors="replace")
            answer = {"watcher": WATCHER, "now": clock.now(), "asked": asked}
            await message.respond(json.dumps(answer).encode())

    async def _request_positions(self, message: Msg) -> None:
        try:
            seconds = float(message.data[:100])
        except ValueError:
            return
        if isfinite(seconds) and seconds > 0:
            self._positions(min(seconds, _LONGEST_POSITIONS))
