"""How events reach the subscribers of `/watch`, on a real loop and fake subscribers."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Thread

import pytest

from pgstatus import clock
from pgstatus.api.feeds import Epoch, Feed, Feeds
from pgstatus.core.selection import Kind, Place, Question
from pgstatus.core.snapshot import Snapshot
from pgstatus.core.view import view
from pgstatus.core.watching import State, Subject, state_of
from pgstatus.http.loop import Loop
from pgstatus.http.streams import Streams
from pgstatus.telemetry.counters import Watchers
from tests.support.waiting import wait_until
from tests.support.world import World, master, refused, replica

MASTER = Subject(Question(Kind.MASTER))
BEFORE = World().see_all(a=master(1), b=replica(1), c=replica(1)).snapshot
AFTER = World().see_all(a=refused(1), b=master(1, timeline=2), c=replica(1, timeline=2)).snapshot


class Watching:
    """Feeds of a snapshot that the test replaces, and their subscribers."""

    def __init__(self) -> None:
        self.snapshot = BEFORE
        self.loop = Loop()
        self.errors = 0
        self.loop.on_error = lambda _: self._failed()
        self.streams = Streams(self.loop, Watchers())
        self.feeds = Feeds(lambda: self.snapshot, Place(), Epoch(), limits_fallback=False)

    def feed(self, subject: Subject = MASTER) -> Feed:
        feed = self.feeds.of(subject)
        assert feed is not None
        return feed

    def publish(self, snapshot: Snapshot, *, fresh: float = 3600.0) -> None:
        self.snapshot = replace(snapshot, stale_after=clock.now() + fresh)
        self.streams.schedule()

    def serve_until(self, what: str, predicate: Callable[[], bool]) -> None:
        def is_true_after_a_turn() -> bool:
            self.loop.turn(0.1)
            return predicate()

        wait_until(what, is_true_after_a_turn)

    def _failed(self) -> None:
        self.errors += 1


class Reader:
    """A subscriber that takes everything."""

    def __init__(self, watching: Watching, feed: Feed) -> None:
        self._watching = watching
        self._feed = feed
        self.events: list[bytes] = []
        self.on_event: Callable[[], object] = lambda: None
        self.ended = False
        watching.streams.add(feed, self)

    def push(self, event: bytes) -> None:
        self.events.append(event)
        self.on_event()

    def end(self) -> None:
        self.ended = True
        self._watching.streams.discard(self._feed, self)


@pytest.fixture
def watching() -> Iterator[Watching]:
    watching = Watching()
    yield watching
    watching.loop.close()


def test_an_event_without_a_new_state_is_due_while_another_event_is_being_sent(
    watching: Watching,
) -> None:
    """As after a pause of the process: the other callbacks of the loop are called."""
    watching.publish(BEFORE)
    feed = watching.feed()
    readers = [Reader(watching, feed) for _ in range(300)]
    watching.publish(AFTER)
    watching.loop.turn(0)
    feed.alive_at = clock.now()
    watching.streams.schedule()

    def serve() -> None:
        while not all(reader.events for reader in readers):
            watching.loop.turn(0.1)

    Thread(target=serve, daemon=True).start()
    wait_until("all have received an event", lambda: all(reader.events for reader in readers))


def test_a_subscriber_that_leaves_during_an_event_without_a_new_state(watching: Watching) -> None:
    watching.publish(BEFORE, fresh=0.3)
    readers = [
        Reader(watching, watching.feed(Subject(Question(Kind.REPLICA, lag_ms=n)))) for n in range(3)
    ]
    readers[0].on_event = readers[0].end
    watching.serve_until("all have an event", lambda: all(reader.events for reader in readers))
    assert watching.errors == 0


def test_a_newer_event_reaches_first_those_that_still_wait_for_the_last_one(
    watching: Watching,
) -> None:
    watching.publish(BEFORE)
    feed = watching.feed()
    readers = [Reader(watching, feed) for _ in range(300)]
    for number in range(30):
        # Faster than an event is sent to all of them.
        watching.publish((AFTER, BEFORE)[number % 2])
        watching.loop.turn(0)
    assert all(reader.events for reader in readers)


def test_many_events_of_one_subject_do_not_delay_those_of_another(watching: Watching) -> None:
    watching.publish(BEFORE)
    others = watching.feed()
    for _ in range(300):
        Reader(watching, others)
    reader = Reader(watching, watching.feed(Subject()))
    for number in range(30):
        watching.publish((AFTER, BEFORE)[number % 2])
        watching.loop.turn(0)
    assert reader.events


def test_a_long_interval_of_figures_does_not_delay_the_event_that_they_are_too_old(
    watching: Watching,
) -> None:
    def late(lsn: int) -> Snapshot:
        return World().see_all(a=master(1), b=replica(1, lsn=lsn), c=replica(1)).snapshot

    watching.publish(late(999), fresh=5)
    feed = watching.feed(Subject(with_figures=True, every=1e6))
    watching.publish(late(998), fresh=5)
    assert not feed.refresh()
    assert feed.due == watching.snapshot.stale_after


@pytest.mark.parametrize("is_ready", [True, False])
def test_another_error_of_a_source_of_a_relay_is_a_figure(is_ready: bool) -> None:
    world = World()
    if is_ready:
        world.see_all(a=master(1), b=replica(1), c=replica(1))

    def lost(error: str | None) -> tuple[State, State]:
        snapshot = view(world.state.received_from((("w1", None), ("w2", error))), world.rules)
        both = Subject(), Subject(with_figures=True)
        first, second = (
            state_of(subject, snapshot, 1, Place(), limits_fallback=False) for subject in both
        )
        return first, second

    (one, with_figures), (other, other_figures) = map(
        lost, ("Connection refused", "no response in time")
    )
    assert (one.key, one.figures) == (other.key, other.figures)
    assert with_figures.key == other_figures.key
    assert with_figures.figures != other_figures.figures
    assert lost(None)[0].key != one.key


def test_a_subscriber_that_fails_is_disconnected_and_the_others_are_sent_the_event(
    watching: Watching,
) -> None:
    def fail() -> None:
        raise MemoryError

    watching.publish(BEFORE)
    feed = watching.feed()
    readers = [Reader(watching, feed) for _ in range(3)]
    readers[1].on_event = fail
    watching.publish(AFTER)
    watching.loop.turn(0)
    assert [len(reader.events) for reader in readers] == [1, 1, 1]
    assert [reader.ended for reader in readers] == [False, True, False]
    assert watching.errors == 1


def test_what_is_published_while_a_subscriber_joins_is_sent() -> None:
    """Without subscribers the loop is not woken for each snapshot."""
    watching = Watching()
    feed = watching.feed()
    watching.publish(AFTER)
    reader = Reader(watching, feed)
    watching.serve_until("the event", lambda: bool(reader.events))
    assert b'"host": "b"' in reader.events[-1]
