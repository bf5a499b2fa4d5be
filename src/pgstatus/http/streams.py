"""The subscribers of `/watch`, and how events reach them.

An event is encoded once and sent to its subscribers in slices, so that other requests are answered
in between. A subscriber that does not take its data receives the latest state later, not a queue.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from math import inf
from typing import Protocol

from pgstatus.api.feeds import Feed
from pgstatus.http.loop import Loop, Timer
from pgstatus.telemetry.counters import Watchers

# Subscribers that are sent an event before other connections have their turn; about 1 ms.
_SLICE = 64


class Subscriber(Protocol):
    """A connection that streams, or a long poll."""

    def push(self, event: bytes) -> None:
        """Send an event, or note that there is one."""

    def end(self) -> None:
        """End the stream; answer the long poll."""


class _Poll:
    """A long poll: one event is enough."""

    def __init__(self, feed: Feed, wake: Callable[[], None]) -> None:
        self._feed = feed
        self._known = feed.id
        self._wake = wake

    def push(self, event: bytes) -> None:
        if self._feed.id != self._known:  # otherwise it is an event without a new state
            self._wake()

    def end(self) -> None:
        self._wake()


class Streams:
    """The subscribers of all feeds. For the thread of the loop, except `schedule`."""

    def __init__(self, loop: Loop, watchers: Watchers) -> None:
        self.limit = 0
        """How many subscribers are accepted."""
        self._loop = loop
        self._watchers = watchers
        self._subscribers: dict[Feed, dict[Subscriber, None]] = {}
        self._sending: OrderedDict[Feed, tuple[bytes, list[Subscriber]]] = OrderedDict()
        self._is_scheduled = False
        self._timer: Timer | None = None
        self._timer_at = inf

    @property
    def count(self) -> int:
        """The number of subscribers."""
        return self._watchers.count

    @property
    def is_full(self) -> bool:
        return self._watchers.count >= self.limit

    def add(self, feed: Feed, subscriber: Subscriber) -> None:
        """From now on the subscriber receives the events of the feed."""
        self._subscribers.setdefault(feed, {})[subscriber] = None
        if not feed.subscribers:
            feed.extend()
        feed.subscribers += 1
        self._watchers.count += 1
        self._set_timer((feed,))
        # What was published since the feed was made or refreshed.
        self.schedule()

    def wait(self, feed: Feed, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` with the next event; returns the function that stops waiting."""
        poll = _Poll(feed, wake)
        self.add(feed, poll)
        return lambda: self.discard(feed, poll)

    def discard(self, feed: Feed, subscriber: Subscriber) -> None:
        subscribers = self._subscribers.get(feed)
        if subscribers is None or subscriber not in subscribers:
            return
        del subscribers[subscriber]
        if not subscribers:
            del self._subscribers[feed]
            self._sending.pop(feed, None)
        feed.subscribers -= 1
        self._watchers.count -= 1

    def schedule(self) -> None:
        """A snapshot was published: send what has changed, soon. Safe in any thread."""
        # Waking the loop for every check costs as much as the check.
        if self._subscribers and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call(self._refresh)

    def close(self) -> None:
        """End all streams: the process stops."""
        for feed in list(self._subscribers):
            self._end(feed)

    def _refresh(self) -> None:
        # First: a snapshot that is published from now on is scheduled again.
        self._is_scheduled = False
        for feed in list(self._subscribers):
            try:
                self._send_what_is_due(feed)
            except Exception:  # no memory, for example
                # Its subscribers have missed a state: they connect again.
                self._end(feed)
                self._loop.on_error(None)
        self._set_timer(self._subscribers)

    def _send_what_is_due(self, feed: Feed) -> None:
        if feed.closed:
            self._end(feed)
        elif feed.refresh():
            self._send(feed, feed.next_event(supersedes=feed in self._sending))
        elif feed.alive_at <= self._loop.now and feed not in self._sending:
            self._send(feed, feed.alive())

    def _tick(self) -> None:
        """The time has come for an event without a new snapshot."""
        self._timer_at = inf
        self._refresh()

    def _set_timer(self, feeds: Iterable[Feed]) -> None:
        when = min((min(feed.alive_at, feed.due) for feed in feeds), default=inf)
        if when < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = when
            self._timer = self._loop.call_at(when, self._tick)

    def _send(self, feed: Feed, event: bytes) -> None:
        """Send the event to all subscribers; one that is being sent already is superseded."""
        feed.extend()
        is_idle = not self._sending
        # However fast events follow each other, each subscriber receives some of them: those that
        # still wait for the superseded one come first, at the end of the list.
        _, waiting = self._sending.get(feed, (b"", []))
        others = self._subscribers[feed].keys() - set(waiting)
        self._sending[feed] = event, [*others, *waiting]
        if is_idle:
            self._continue()

    def _continue(self) -> None:
        try:
            for _ in range(_SLICE):
                if not self._sending:
                    return
                feed, (event, subscribers) = next(iter(self._sending.items()))
                subscriber = subscribers.pop()
                # The next one is of another feed: many subscribers do not delay those of others.
                self._sending.move_to_end(feed)
                if not subscribers:
                    del self._sending[feed]
                if subscriber in self._subscribers[feed]:
                    self._push(subscriber, event)
        finally:
            if self._sending:
                self._loop.call(self._continue)

    def _push(self, subscriber: Subscriber, event: bytes) -> None:
        self._watchers.events += 1
        try:
            subscriber.push(event)
        except Exception:  # it has missed a state; the others have not
            subscriber.end()
            self._loop.on_error(None)

    def _end(self, feed: Feed) -> None:
        self._sending.pop(feed, None)
        for subscriber in list(self._subscribers.get(feed, ())):
            subscriber.end()
