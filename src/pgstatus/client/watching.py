"""What a client knows about a watched question, and for how long. ``now`` is an argument, in
seconds of `clock`. No input or output.

Each message states until when its answer may be used, on the server's clock. Client and server need
no common time: the difference between their clocks is estimated for each stream. A message may
have waited in a buffer, for example while the client was stopped, so the least difference counts.
"""

import json
import math
import random
import time
from collections.abc import Hashable
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import count
from typing import NamedTuple

from pgstatus.client.events import Event
from pgstatus.client.model import Answer, ChosenHost, Hosts, HostStatus
from pgstatus.client.response import chosen_host, host_statuses

State = Answer | Hosts

# No answer is used for longer without another message, whatever the server allows. In seconds.
MAX_FRESH = 300.0
# Without notifications, a replica that was named this long ago is probably still in turn.
IN_TURN_SECONDS = 10.0

# Not the global generator, whose state belongs to the application; forked processes differ.
_random = random.SystemRandom()

# It includes the time that the machine was suspended, CLOCK_MONOTONIC does not.
clock = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)


class Message(NamedTuple):
    """A notification. ``id`` is that of the state; ``state`` is None if it was sent before.

    ``sent`` is the time of sending on the server's clock, ``fresh`` the seconds from then on
    during which the state may be used.
    """

    id: str
    state: State | None
    sent: float
    fresh: float


def read_message(event: Event) -> Message | None:
    """The content of an event; None: an unknown kind. ValueError: not from pg-status."""
    if event.kind not in {"answer", "hosts", "alive"}:
        return None
    try:
        data = json.loads(event.data)
        fresh = _seconds(data["fresh_ms"])
        # Python 3.10 does not read the Z of RFC 3339.
        until = datetime.fromisoformat(data["fresh_until"].replace("Z", "+00:00"))
        state: State | None = None
        if event.kind == "answer":
            hosts = tuple(chosen_host(each) for each in data["hosts"])
            state = Answer(data["id"], hosts, data["reason"])
        elif event.kind == "hosts":
            state = Hosts(
                data["id"],
                host_statuses(data["hosts"]),
                data["ready"],
                data["stale"],
                data["master"],
                data["no_master"],
            )
        sent = until.timestamp() - fresh
        return Message(data["id"], state, sent, min(max(fresh, 0.0), MAX_FRESH))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"unexpected event, the server is not pg-status ({error!r})") from error


def _seconds(milliseconds: object) -> float:
    if not isinstance(milliseconds, (int, float)) or not math.isfinite(milliseconds):
        raise ValueError(f"fresh_ms is {milliseconds!r}")
    return milliseconds / 1000


class Clocks:
    """The difference between the clock of a server and ours, during one stream."""

    def __init__(self, asked_at: float) -> None:
        self._asked_at = asked_at
        self._difference: float | None = None

    def sent_at(self, message: Message, now: float) -> float:
        """When the message was sent, on our clock; in case of doubt, earlier."""
        # The first message was sent after the request, and may have waited since.
        difference = (self._asked_at if self._difference is None else now) - message.sent
        if self._difference is None or difference < self._difference:
            self._difference = difference
        return message.sent + self._difference


class Memory:
    """The hosts that answer a question without a request. Safe in any thread."""

    def __init__(self) -> None:
        self._latest: tuple[tuple[ChosenHost, ...], float] | None = None
        # Many processes do not begin with the same host.
        self._turn = count(_random.randrange(1 << 16))

    def next(self, now: float) -> ChosenHost | None:
        """One of the hosts, in turn; None: a request is necessary."""
        latest = self._latest
        if latest is None or now >= latest[1]:
            return None
        hosts = latest[0]
        return hosts[next(self._turn) % len(hosts)]

    def set(self, hosts: tuple[ChosenHost, ...], until: float) -> None:
        """The hosts that may be used until then."""
        self._latest = (hosts, until) if hosts else None

    def clear(self) -> None:
        """The stream is broken: nothing may be used."""
        self._latest = None


class Named:
    """The hosts of a question that is asked repeatedly, because there are no notifications.

    Each response names one of several replicas, so those of the last seconds belong to the answer.
    """

    def __init__(self) -> None:
        self._hosts: dict[Hashable, tuple[ChosenHost, float]] = {}

    def set(self, hosts: tuple[ChosenHost, ...], now: float) -> None:
        """A notification names all of them."""
        self._hosts = {_identity(each): (each, now) for each in hosts}

    def answer(self, chosen: ChosenHost, now: float) -> Answer:
        """The answer after this response."""
        if chosen.role == "replica":
            self._hosts = {
                key: (host, at)
                for key, (host, at) in self._hosts.items()
                if host.role == "replica" and at > now - IN_TURN_SECONDS
            }
        else:
            self._hosts = {}
        self._hosts[_identity(chosen)] = (chosen, now)
        return Answer("", tuple(host for host, _ in self._hosts.values()))


def hosts_without_notification(hosts: tuple[HostStatus, ...]) -> Hosts:
    """The state of all hosts, from the response to a request."""
    master = next((f"{each.host}:{each.port}" for each in hosts if each.role == "master"), None)
    return Hosts("", hosts, ready=True, stale=False, master=master, no_master=None)


def key_of(state: State) -> Hashable:
    """Equal keys: nothing has changed except figures."""
    if isinstance(state, Answer):
        return tuple(map(_identity, state.hosts)), state.reason
    return replace(state, id="", hosts=tuple(_without_figures(each) for each in state.hosts))


def _identity(host: ChosenHost) -> Hashable:
    return host.host, host.port, host.role, host.stale


def _without_figures(status: HostStatus) -> HostStatus:
    return replace(
        status, lag_ms=None, lag_bytes=None, lsn=None, checked_at=None, error=None, reason=None
    )
