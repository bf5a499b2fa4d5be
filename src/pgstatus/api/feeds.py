"""The event streams of `/watch`: one feed per subject, shared by all of its subscribers.

Source of the format: WHATWG HTML, "Server-sent events". For one thread, except `Feeds.close`.
"""

import json
import secrets
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from math import inf

from pgstatus import clock
from pgstatus.core.render import rfc3339
from pgstatus.core.selection import Place
from pgstatus.core.snapshot import Snapshot
from pgstatus.core.watching import State, Subject, changes_at, fresh_until, state_of

ALIVE = 10.0
"""Seconds between two events at most: a subscriber that receives none for 15 s may reconnect."""
_WATCHED = 1.0
"""The same for subscribers of the figures, at least."""

# Each watched subject is computed for each snapshot; others are kept for the next long poll.
_MAX_SUBJECTS = 256
# Seconds that the encoded state is sent again. Longer would distort the times in it.
_ENCODED = 0.05
# Seconds between two events at least, if the snapshot is about to be too old.
_SOON = 0.1


class Epoch:
    """The source of event IDs, ``EPOCH-N``: one per process."""

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(6)
        self._numbers = count(1)

    def next(self) -> str:
        return f"{self._epoch}-{next(self._numbers)}"


class Feed(ABC):
    """A stream of events, the same for all of its subscribers."""

    RETRY = "retry: 1000\n\n"
    """The beginning of a stream: when to connect again after its end, milliseconds."""

    def __init__(self) -> None:
        self.subscribers = 0
        """A feed without subscribers is not refreshed with each snapshot."""
        self.alive_at = inf
        """When an event without a new state is due."""
        self.id = ""
        """Of the latest event."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Another configuration is in use; subscribers have to reconnect."""

    @property
    @abstractmethod
    def due(self) -> float:
        """When `refresh` has to be called although no snapshot was published."""

    @abstractmethod
    def refresh(self) -> bool:
        """True: there is a new event."""

    @abstractmethod
    def event(self) -> bytes:
        """The event for a subscriber that has received none, or has missed some."""

    def next_event(self, *, supersedes: bool) -> bytes:
        """The event for the other subscribers.

        ``supersedes``: some of them have not received the one before, and will not receive it.
        """
        return self.event()

    def extend(self) -> None:  # noqa: B027  # events do not expire unless a feed says so
        """All subscribers are sent an event now."""

    def alive(self) -> bytes:
        """The event that extends the life of the latest state."""
        raise NotImplementedError


class SubjectFeed(Feed):
    """The states of one subject, as events."""

    def __init__(self, subject: Subject, feeds: "Feeds") -> None:
        super().__init__()
        self._subject = subject
        self._feeds = feeds
        self._reported_at = now = clock.now()
        self._snapshot = feeds.read()
        """What the latest state was computed from."""
        self._is_stale = self._snapshot.is_stale(now)
        self._reported = self._latest = feeds.state_of(subject, self._snapshot, now)
        self._json, self._event, self._encoded_at = "", b"", -inf
        self.id = feeds.epoch.next()

    @property
    def closed(self) -> bool:
        return self._feeds.closed

    @property
    def due(self) -> float:
        stale_at = changes_at(self._snapshot, clock.now())
        if self._latest.figures != self._reported.figures:
            return min(stale_at, self._reported_at + self._subject.every)
        return stale_at

    def refresh(self) -> bool:
        """Compare with the latest snapshot; True: there is a new event."""
        now, snapshot = clock.now(), self._feeds.read()
        is_stale = snapshot.is_stale(now)
        if snapshot is not self._snapshot or is_stale is not self._is_stale:
            self._latest = self._feeds.state_of(self._subject, snapshot, now)
            self._snapshot, self._is_stale = snapshot, is_stale
        latest = self._latest
        if latest.key == self._reported.key and (
            latest.figures == self._reported.figures
            or now < self._reported_at + self._subject.every
        ):
            return False
        self._reported, self._reported_at = latest, now
        self.id = self._feeds.epoch.next()
        self._encoded_at = -inf
        return True

    def extend(self) -> None:
        """All subscribers are sent an event now."""
        self.alive_at = clock.now() + self._interval()

    def _interval(self) -> float:
        """Seconds until the next event, at most."""
        every, left = self._subject.every, self._left()
        # People who watch the figures notice that there are no more of them.
        most = min(ALIVE, max(every, _WATCHED)) if self._subject.with_figures else ALIVE
        return min(most, max(left * 2 / 3, _SOON)) if left else most

    def event(self) -> bytes:
        """The latest state as an event: for some time the same bytes, which subscribers share."""
        self._encode()
        return self._event

    def alive(self) -> bytes:
        """The event that extends the life of the latest state."""
        data = json.dumps({"id": self.id, **self._fresh()})
        return f"event: alive\ndata: {data}\n\n".encode()

    def json(self) -> str:
        """The data of the latest event."""
        self._encode()
        return self._json

    def _encode(self) -> None:
        now = clock.now()
        if now - self._encoded_at <= _ENCODED:
            return
        data = {"id": self.id, **self._latest.payload, **self._fresh()}
        self._json = json.dumps(data, ensure_ascii=False)
        kind = self._latest.event
        self._event = f"id: {self.id}\nevent: {kind}\ndata: {self._json}\n\n".encode()
        self._encoded_at = now

    def _fresh(self) -> dict[str, str | int | None]:
        left = self._left()
        until = clock.wall() + timedelta(seconds=left)
        return {
            "fresh_until": rfc3339(until),
            "fresh_ms": int(left * 1000),
            "next_ms": int(self._interval() * 1000),
        }

    def _left(self) -> float:
        """Seconds that the latest state may be used; 0: it is no state to be used."""
        now = clock.now()
        return max(0.0, fresh_until(self._snapshot, now) - now)


class Feeds:
    """The feeds of one configuration."""

    def __init__(
        self, read: Callable[[], Snapshot], place: Place, epoch: Epoch, *, limits_fallback: bool
    ) -> None:
        self.read = read
        self.epoch = epoch
        self.closed = False
        self._place = place
        self._limits_fallback = limits_fallback
        self._feeds: OrderedDict[Subject, SubjectFeed] = OrderedDict()

    def of(self, subject: Subject) -> SubjectFeed | None:
        """The feed of this subject, up to date; None: too many subjects are watched."""
        feed = self._feeds.get(subject)
        if feed is None:
            if not self._has_room():
                return None
            feed = self._feeds[subject] = SubjectFeed(subject, self)
        elif not feed.subscribers:  # otherwise it is refreshed with each snapshot
            feed.refresh()
        self._feeds.move_to_end(subject)
        return feed

    def state_of(self, subject: Subject, snapshot: Snapshot, now: float) -> State:
        """The state of the subject in a snapshot."""
        limited = self._limits_fallback
        return state_of(subject, snapshot, now, self._place, limits_fallback=limited)

    def close(self) -> None:
        """Another configuration is in use. Safe in any thread."""
        self.closed = True

    def _has_room(self) -> bool:
        if len(self._feeds) < _MAX_SUBJECTS:
            return True
        unused = next((s for s, feed in self._feeds.items() if not feed.subscribers), None)
        if unused is None:
            return False
        del self._feeds[unused]
        return True
