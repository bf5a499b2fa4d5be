"""``pg-status hosts --watch``: every state of an instance, as soon as it changes.

The stream ``/watch`` delivers changes. An instance that has no stream is queried at intervals, and
so are several clusters together. While it is unavailable, the attempts continue.
"""

import contextlib
import json
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from pgstatus.cli.remote import Instance, Stream
from pgstatus.cli.state import Clusters, Entry, State, fetch, foreign, time_of
from pgstatus.errors import StartError, UnreachableError

Fetch = Callable[[Instance], State | Clusters]

_RETRY = 1.0
"""Seconds between two attempts while the instance is unavailable."""
_TIMEOUT = 3.0
"""Seconds without a response until the instance is unavailable."""
_STREAM_AGAIN = 60.0
"""Seconds until the stream is requested again from an instance that has none."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The instance is unavailable."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The last state is still the present one."""

    now: datetime
    """The time of the server."""


Received = State | Clusters | Unchanged | Lost


class Follower:
    """A background thread that receives the states. It ends with the process."""

    def __init__(self, instance: Instance, interval: float, fetching: Fetch = fetch) -> None:
        """``interval``: seconds between two updates of the lag, and between two requests."""
        self._instance = replace(instance, timeout=_TIMEOUT)
        self._fetch = fetching
        self._interval = interval
        self._no_stream_until = 0.0
        self._received: queue.SimpleQueue[Received] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="follow", daemon=True).start()

    def next(self, timeout: float) -> Received | None:
        """The newest state; None if there is none within ``timeout`` seconds."""
        newest: Received | None = None
        with contextlib.suppress(queue.Empty):
            newest = self._received.get(timeout=timeout)
            while True:
                following = self._received.get_nowait()
                if isinstance(newest, State) and isinstance(following, Unchanged):
                    following = replace(newest, now=following.now)
                newest = following
        return newest

    def _run(self) -> None:
        while True:
            try:
                state = self._fetch(self._instance)
                self._received.put(state)
                self._follow(state)
            except (UnreachableError, StartError) as error:
                self._received.put(Lost(str(error)))
                time.sleep(_RETRY)

    def _follow(self, state: State | Clusters) -> None:
        """Receive changes until the stream ends; without a stream, wait for the next request."""
        if isinstance(state, Clusters) or time.monotonic() < self._no_stream_until:
            time.sleep(self._interval)
            return
        every_ms = max(100, round(self._interval * 1000))
        with self._instance.stream(f"/watch?every_ms={every_ms}") as stream:
            if stream is None:
                self._no_stream_until = time.monotonic() + _STREAM_AGAIN
                return
            try:
                self._receive(stream, state)
            except (ValueError, TypeError, KeyError, AttributeError):
                raise foreign(self._instance) from None
        # The instance reloads or ends; its other clients connect again, too.
        time.sleep(random.uniform(0.1, 0.5))  # noqa: S311

    def _receive(self, stream: Stream, state: State) -> None:
        for event in events(stream):
            stream.expect_next(event.get("next_ms") or event.get("fresh_ms"))
            if "hosts" not in event:
                at = time_of(event)
                if at is not None:
                    self._received.put(Unchanged(at))
            else:
                after = state.after(event) or self._fetch(self._instance)
                self._received.put(after)
                if isinstance(after, Clusters):
                    return
                state = after


def events(stream: Iterable[bytes]) -> Iterator[Entry]:
    """The data of each server-sent event (WHATWG HTML). ValueError: it is not JSON."""
    data: list[bytes] = []
    for line in stream:
        text = line.rstrip(b"\r\n")
        if text.startswith(b"data:"):
            data.append(text[5:].removeprefix(b" "))
        elif not text and data:
            yield json.loads(b"\n".join(data))
            data = []
