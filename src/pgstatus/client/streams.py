"""The streams of one client, each for one question, shared by all of its threads and tasks."""

import os
import threading
import weakref
from collections.abc import Callable
from functools import partial

from pgstatus.client.cache import AnswerCache
from pgstatus.client.endpoint import Endpoint
from pgstatus.client.listener import Listener
from pgstatus.client.model import ChosenHost
from pgstatus.client.request import Request
from pgstatus.client.stream import Stream
from pgstatus.client.watching import clock

MAX_QUESTIONS = 16
"""How many questions of one client are watched."""


class Streams:
    """The streams of one client. All methods may be called by any thread."""

    def __init__(self, endpoint: Endpoint, deadline: float, cache: AnswerCache) -> None:
        self._endpoint = endpoint
        self._deadline = deadline
        self._cache = cache
        self._streams: dict[Request, Stream] = {}
        self._lock = threading.Lock()
        self._is_forked = False
        # A client that is not closed is collected, and its threads end.
        weakref.finalize(self, _stop_all, self._streams)
        _all.add(self)

    def next(self, request: Request) -> ChosenHost | None:
        """A host that answers the question, without a request; None: a request is necessary."""
        stream = self._streams.get(request)
        return None if stream is None else stream.next(clock())

    def follow(self, request: Request) -> None:
        """The question was asked: have the next one answered from memory."""
        self.resume()
        with self._lock:
            found = self._streams.get(request)
            if found is None and self._has_room():
                found = self._new(request)
            if found is not None:
                found.run()

    def listen(self, request: Request, listener: Listener) -> Callable[[], None]:
        """Call it with each state of the question; the result ends that."""
        self.resume()
        with self._lock:
            stream = self._streams.get(request) or self._new(request)
            stream.add(listener)
        return partial(stream.remove, listener)

    def stop(self) -> None:
        """End all streams. They begin again with the next question."""
        with self._lock:
            _stop_all(self._streams)

    def forked(self) -> None:
        """This is a forked child: the threads do not exist, and another may hold the lock."""
        self._lock = threading.Lock()
        self._cache.forked()
        self._is_forked = True
        for stream in self._streams.values():
            stream.forked()

    def resume(self) -> None:
        """After a fork, start the threads of streams with callbacks."""
        if self._is_forked:
            self._is_forked = False
            for stream in tuple(self._streams.values()):
                if stream.has_listeners():
                    stream.run()

    def _new(self, request: Request) -> Stream:
        stream = Stream(request, self._endpoint, self._deadline, self._cache)
        self._streams[request] = stream
        return stream

    def _has_room(self) -> bool:
        for key in [key for key, stream in self._streams.items() if stream.is_unused()]:
            del self._streams[key]
        return len(self._streams) < MAX_QUESTIONS


def _stop_all(streams: dict[Request, Stream]) -> None:
    while streams:
        streams.popitem()[1].stop()


_all: "weakref.WeakSet[Streams]" = weakref.WeakSet()


def _forked() -> None:
    for streams in list(_all):
        streams.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
