"""The response cache: responses by the exact bytes of their request, for one snapshot.

The API defines every response; it marks those that depend on the request and the snapshot only, and
they are sent again until the next snapshot.
"""

import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from functools import partial
from math import inf
from typing import Protocol

from pgstatus.api.exchange import Response
from pgstatus.core.snapshot import Snapshot
from pgstatus.http.reply import Reply

# Of requests and responses together. Applications send a few dozen different requests of about 100
# bytes; a million different ones take no more memory than this.
_MAX_BYTES = 2**20
# Bytes that an entry takes beside its request and response.
_OVERHEAD = 500
# The beginnings of requests whose path names a cluster. Other forms of the path (``/%63/NAME``) are
# rare, and not in the cache.
_CLUSTER = (b"GET /c/", b"HEAD /c/")


class Read(Protocol):
    """Returns the latest snapshot of a cluster, None: there is no such cluster. Without a name: of
    the only cluster, or an empty one.
    """

    def __call__(self, cluster: str | None = None, /) -> Snapshot | None: ...


class ResponseCaches:
    """The responses of all clusters. For one thread.

    Clients that presented no certificate where one is requested have caches of their own:
    ``certificate_missing``.
    """

    def __init__(self, read: Read, *, certificate_missing: bool = False) -> None:
        self._read = read
        self.certificate_missing = certificate_missing
        self._date = Date()
        self._common = ResponseCache(read, self._date)
        """Of requests that name no cluster."""
        self._named: dict[bytes, ResponseCache] = {}

    @property
    def date(self) -> bytes:
        """The value of the ``Date`` header, as `find` has renewed it."""
        return self._date.text

    @property
    def size(self) -> int:
        """Bytes of all entries, estimated."""
        return self._common.size + sum(cache.size for cache in self._named.values())

    def find(self, request: bytes, now: float) -> Reply | None:
        """The response to these bytes, dated; None if it is not in the cache."""
        cache = self._of(request) if request.startswith(_CLUSTER) else self._common
        return cache.find(request, now)

    def turn(self, request: bytes) -> int | None:
        """The turn of the round robin that `find` has taken although the response is missing."""
        return self._of(request).turn(request)

    def store(self, request: bytes, response: Response, reply: Reply) -> None:
        """Keep a response that was computed after `find`, if it may be sent again."""
        cache = self._of(request)
        # The path of another cluster has another form, in which it is not looked for.
        if response.cluster not in {None, cache.cluster}:
            return
        cache.store(request, response, reply)
        if self.size > _MAX_BYTES:
            self.clear()

    def clear(self) -> None:
        self._common.clear()
        self._named.clear()

    def _of(self, request: bytes) -> "ResponseCache":
        if not request.startswith(_CLUSTER):
            return self._common
        begin = request.find(b"/c/") + len(b"/c/")
        name = request[begin : request.find(b"/", begin)]
        return self._named.get(name) or self._begin(name)

    def _begin(self, name: bytes) -> "ResponseCache":
        """The cache of a cluster that had none. It exists before the response is computed, because
        it must not keep one that was computed from an earlier snapshot.
        """
        cluster = name.decode(errors="replace")
        if not cluster or self._read(cluster) is None:
            return self._common
        self._named[name] = ResponseCache(partial(self._read, cluster), self._date, cluster)
        return self._named[name]


class Date:
    """The value of the ``Date`` header."""

    def __init__(self) -> None:
        self.text = b""
        self._second = 0

    def renew(self) -> float:
        """Renew it; returns the seconds that it remains valid."""
        seconds = time.time()
        if int(seconds) != self._second:
            # Costs as much as the rest of a request, and there may be many snapshots in a second.
            self._second = int(seconds)
            self.text = formatdate(seconds, usegmt=True).encode()
        return 1 - seconds % 1


class _Entry:
    """The responses to one request, one for each of the equally good hosts."""

    __slots__ = ("replies", "turn", "turns")

    def __init__(self, turns: Iterator[int] | None, choices: int) -> None:
        self.turns = turns if choices > 1 else None
        self.turn: int | None = None
        """The turn that was taken, while its response is missing."""
        self.replies: list[Reply | None] = [None] * choices


class ResponseCache:
    """The responses of one snapshot, which ``read`` returns; None: its cluster was removed."""

    def __init__(
        self, read: Callable[[], Snapshot | None], date: Date, cluster: str | None = None
    ) -> None:
        self.cluster = cluster
        """That the paths of the requests name."""
        self._read = read
        self._snapshot = read()
        self._stale = False
        self._entries: dict[bytes, _Entry] = {}
        self.size = 0
        """Bytes of the entries, estimated."""
        self._date = date
        self._renew_at = -inf

    def find(self, request: bytes, now: float) -> Reply | None:
        """The response to these bytes, dated; None if it is not in the cache.

        The cache contains whole requests without anything behind them, so no other bytes match.
        """
        if now >= self._renew_at or self._read() is not self._snapshot:
            self._renew(now)
        entry = self._entries.get(request)
        if entry is None:
            return None
        if entry.turns is None:
            found = entry.replies[0]
        else:
            if entry.turn is None:
                entry.turn = next(entry.turns) % len(entry.replies)
            found = entry.replies[entry.turn]
        if found is not None:
            entry.turn = None
            found.dated(self._date.text)
        return found

    def turn(self, request: bytes) -> int | None:
        """The turn of the round robin that `find` has taken although the response is missing."""
        entry = self._entries.get(request)
        return None if entry is None else entry.turn

    def store(self, request: bytes, response: Response, reply: Reply) -> None:
        """Keep a response that was computed after `find`, if it may be sent again."""
        if not response.cacheable or self._read() is not self._snapshot:
            return
        self.size += len(request) + len(response.body) + _OVERHEAD
        entry = self._entries.get(request)
        if entry is None:
            entry = self._entries[request] = _Entry(response.turns, response.choices)
        entry.replies[response.index] = reply
        entry.turn = None

    def clear(self) -> None:
        self._entries.clear()
        self.size = 0

    def _renew(self, now: float) -> None:
        """A new second or snapshot has begun, or the snapshot has become too old."""
        snapshot = self._read()
        stale = snapshot is not None and snapshot.is_stale(now)
        if snapshot is not self._snapshot or stale is not self._stale:
            self._snapshot, self._stale = snapshot, stale
            self.clear()
        self._renew_at = now + self._date.renew()
        if snapshot is not None and not stale:
            self._renew_at = min(self._renew_at, snapshot.stale_after)
