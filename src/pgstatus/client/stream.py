"""The notifications of pg-status about one question, and the thread that receives them.

Both clients use a thread for this. It reads while an event loop is busy, serves one event loop
after another, and keeps neither a program nor an event loop from ending.
"""

import logging
import random
import threading
from collections.abc import Callable, Iterable
from functools import partial

from pgstatus.client.cache import AnswerCache
from pgstatus.client.endpoint import Endpoint
from pgstatus.client.errors import WITHDRAWN, DeadlineError
from pgstatus.client.events import EventParser
from pgstatus.client.listener import Listener
from pgstatus.client.model import Answer, ChosenHost
from pgstatus.client.request import HOSTS, Request
from pgstatus.client.response import read_chosen, read_hosts
from pgstatus.client.transport import EventSource, Transport
from pgstatus.client.watching import (
    Clocks,
    Memory,
    Message,
    Named,
    State,
    clock,
    hosts_without_notification,
    read_message,
)

logger = logging.getLogger("pgstatus.client")

# All times are in seconds.
IDLE = 300.0
"""A stream ends if its question is not asked for this long, and nothing else uses it."""
SILENCE = 20.0
"""A stream is broken if no notification arrives for this long; pg-status sends one every 15 s."""
FIRST_EVENT = 5.0
"""pg-status sends the first event immediately. Otherwise a proxy collects the response."""
MIN_PAUSE, MAX_PAUSE = 0.05, 5.0
"""Between two attempts to connect; doubled with each."""
BUSY_PAUSE = 5.0
"""After a status 5xx, for example because of too many connections."""
UNSUPPORTED_PAUSE = 60.0
"""If pg-status, or a proxy before it, does not support notifications."""
POLL = 1.0
"""Without notifications, questions with callbacks are asked at this interval."""
UNREAD = 0.05
"""How often it is checked whether there is an unread notification: the process may have been
stopped, or a callback may take long."""

# Not the global generator, whose state belongs to the application; forked processes differ.
_random = random.SystemRandom()


class _UnsupportedError(Exception):
    """No notifications from this server."""


class _BusyError(Exception):
    """The server accepts no more streams at the moment."""


class Stream:
    """The notifications about one question, and the thread that receives them."""

    def __init__(
        self, request: Request, endpoint: Endpoint, deadline: float, cache: AnswerCache
    ) -> None:
        self._request = request
        self._endpoint = endpoint
        self._deadline = deadline
        self._cache = cache
        self._transport = Transport(endpoint, 1)
        self._memory = Memory()
        self._named = Named()
        self._state: State | None = None
        self._listeners: tuple[Listener, ...] = ()
        self._used_at = self._checked_at = clock()
        self._source: EventSource | None = None
        self._stopped = False
        self.running = False
        # Re-entrant: `stop` runs wherever the garbage collector finds an unused client.
        self._lock = threading.RLock()
        self._wake = threading.Event()

    # For the callers, in any thread.

    def next(self, now: float) -> ChosenHost | None:
        """A host that answers the question, without a request; None: a request is necessary."""
        self._used_at = now
        if now - self._checked_at > UNREAD:
            source = self._source
            if source is None or source.has_unread():
                return None
            self._checked_at = now
        return self._memory.next(now)

    def run(self) -> None:
        """Start the thread, unless it runs. Without resources for it, nothing happens."""
        self._used_at = clock()
        with self._lock:
            if not self.running and not self._stopped:
                self.running = _start(self._run)

    def add(self, listener: Listener) -> None:
        """Call it with the known state, and with each new one."""
        with self._lock:
            self._listeners = (*self._listeners, listener)
        self._wake.set()
        state = self._state
        if state is not None:
            # Not in this thread: it may hold a lock that the callback needs.
            _start(partial(self._offer, state, (listener,)))
        self.run()

    def remove(self, listener: Listener) -> None:
        """Do not call it any more."""
        listener.removed = True
        with self._lock:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

    def has_listeners(self) -> bool:
        return bool(self._listeners)

    def is_unused(self) -> bool:
        """Whether the thread has ended, and does not have to run."""
        return not self.running and not self._listeners

    def stop(self) -> None:
        """End the thread soon, and for ever."""
        self._stopped = True
        with self._lock:
            listeners, self._listeners = self._listeners, ()
        for listener in listeners:
            listener.close()
        self._memory.clear()
        self._wake.set()
        source = self._source
        if source is not None:
            source.interrupt()

    def forked(self) -> None:
        """This is a forked child, without the thread."""
        self._memory.clear()
        # Other threads of the parent may hold the locks.
        self.running, self._lock, self._wake = False, threading.RLock(), threading.Event()
        for listener in self._listeners:
            listener.forked()
        source, self._source = self._source, None
        if source is not None:
            source.abandon()

    # For the thread.

    def _run(self) -> None:
        failures = 0
        while not self._ends():
            began = clock()
            pause = 0.0
            try:
                self._follow()
            except _UnsupportedError as error:
                logger.debug("no notifications: %s", error)
                pause = UNSUPPORTED_PAUSE
            except Exception as error:
                logger.debug("the stream for %s ended: %r", self._request.target(), error)
                pause = BUSY_PAUSE if isinstance(error, _BusyError) else 0.0
            failures = 0 if clock() - began > MAX_PAUSE else failures + 1
            pause = pause or min(MIN_PAUSE * 2 ** min(failures, 10), MAX_PAUSE)
            self._pause(pause * _random.uniform(0.5, 1.5))
            # Not kept: it is used if there are callbacks, and a stream is not possible.
            self._transport.close()

    def _is_over(self) -> bool:
        """Whether the thread has to end."""
        is_unused = not self._listeners and clock() - self._used_at > IDLE
        return self._stopped or is_unused

    def _ends(self) -> bool:
        """The same; the next call of `run` starts another thread then."""
        with self._lock:
            self.running = not self._is_over()
            if not self.running:
                self._state = None  # it will be outdated
            return not self.running

    def _follow(self) -> None:
        """Receive notifications until the stream ends."""
        clocks = Clocks(clock())
        parser = EventParser()
        target = self._request.watch_target()
        with EventSource.open(self._endpoint, target, self._deadline) as source:
            if source.status >= 500:
                raise _BusyError(f"status {source.status}")
            if not source.has_events:
                raise _UnsupportedError(f"{source.url}: status {source.status}")
            self._source = source
            received = False
            try:
                if self._stopped:
                    return
                for part in source.read(FIRST_EVENT):
                    for event in parser.feed(part):
                        message = read_message(event)
                        if message is not None:
                            self._receive(message, clocks, source)
                            received = True
                    if self._is_over():
                        return
            except DeadlineError as error:
                if received:
                    raise
                raise _UnsupportedError("the first event did not arrive") from error
            except ValueError as error:
                raise _UnsupportedError(str(error)) from error
            finally:
                self._memory.clear()
                self._source = None

    def _receive(self, message: Message, clocks: Clocks, source: EventSource) -> None:
        now = clock()
        sent_at = clocks.sent_at(message, now)
        until = sent_at + message.fresh
        if message.fresh and until <= now:
            # It was delayed, or the server's clock was set back: another stream estimates it anew.
            raise ConnectionError("a notification arrived too late")
        source.wait(min(max(until - now, 1.0), SILENCE) if message.fresh else SILENCE)
        if message.state is not None:
            self._state = message.state
            if isinstance(message.state, Answer):
                self._named.set(message.state.hosts, now)
        state = self._state
        if state is None or state.id != message.id:
            raise ConnectionError("a notification is missing")
        if isinstance(state, Answer) and message.fresh:
            # A request that pg-status does not respond to uses it.
            if state.hosts:
                self._cache.store(self._request, state.hosts[0], sent_at)
            else:
                self._cache.forget(self._request, sent_at)
            self._memory.set(state.hosts, until)
        else:
            self._memory.clear()
        if message.state is not None:
            self._offer(message.state, self._listeners)

    def _offer(self, state: State, listeners: Iterable[Listener]) -> None:
        for listener in listeners:
            if not listener.offer(state):
                self.remove(listener)

    def _pause(self, seconds: float) -> None:
        """Wait before another attempt. Without notifications, callbacks depend on requests."""
        until = clock() + seconds
        while not self._is_over():
            if self._listeners:
                self._ask()
            left = until - clock()
            if left <= 0:
                return
            self._wake.wait(min(left, POLL) if self._listeners else left)
            self._wake.clear()

    def _ask(self) -> None:
        try:
            self._state = self._requested()
        except Exception as error:
            logger.debug("no state of %s: %r", self._request.target(), error)
        else:
            self._offer(self._state, self._listeners)

    def _requested(self) -> State:
        """The state according to the response to a request. ClientError: nothing is known."""
        response = self._transport.get(self._request.target(), self._deadline)
        if self._request == HOSTS:
            return hosts_without_notification(read_hosts(response))
        try:
            return self._named.answer(read_chosen(response), clock())
        except WITHDRAWN as error:
            return Answer("", (), str(error))


def _start(function: Callable[[], None]) -> bool:
    """Run it in a daemon thread, which does not keep the program from ending."""
    try:
        threading.Thread(target=function, name="pg-status-watch", daemon=True).start()
    except RuntimeError:
        return False  # no resources for a thread
    return True
