"""The client for asyncio. `synchronous` is generated from this file: ``make unasync``."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import count
from ssl import SSLContext
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

from pgstatus.client.cache import AnswerCache
from pgstatus.client.endpoint import Endpoint, FilePath, Tls
from pgstatus.client.errors import NO_ANSWER, WITHDRAWN, DeadlineError
from pgstatus.client.model import Answer, ChosenHost, Hosts, HostStatus
from pgstatus.client.request import (
    HOSTS,
    MASTER,
    Fallback,
    Question,
    Request,
    selection,
    watched,
)
from pgstatus.client.response import Response, find_host, read_chosen, read_hosts
from pgstatus.client.sharing import AsyncSharing
from pgstatus.client.subscription import AsyncWatching
from pgstatus.client.transport import AsyncTransport
from pgstatus.client.watching import clock

T = TypeVar("T")

# How long a caller waits for a new answer if a previous one is usable, in seconds.
PATIENCE = 0.05
# While pg-status does not respond, and answers are usable, it is asked again at this interval.
RETRY_SECONDS = 0.5
# How many requests with the same position may be in progress: divisible by 2, 3 and 4 replicas.
TURNS = 12


class AsyncPgStatusClient:
    """Asks the pg-status at ``url``: ``http://host:port``, ``https://…`` or ``unix:/path``.

    All times are in seconds. ``deadline`` bounds a request from the lookup of the name to the last
    byte; if pg-status may wait for a replica, ``wait_ms`` is added to it. An answer is used again
    for ``max_age``; and for ``stale_if_error`` while pg-status gives none, without waiting for it.

    TLS: ``ssl_context``, or ``ca`` (default: that of the system) and, for a client certificate,
    ``cert`` and ``key`` (PEM files). ``server_name`` is the name in the server's certificate if it
    is not the host of the URL. A Unix domain socket uses TLS if one of these options is present.

    ``watch``: after the first question, pg-status sends notifications in the background, and the
    following ones are answered from memory; by requests, whenever that is not possible.

    One object serves any number of concurrent callers.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        deadline: float = 1.0,
        max_age: float = 0.1,
        stale_if_error: float = 600.0,
        max_connections: int = 10,
        ssl_context: SSLContext | None = None,
        ca: FilePath | None = None,
        cert: FilePath | None = None,
        key: FilePath | None = None,
        server_name: str | None = None,
        watch: bool = True,
    ) -> None:
        endpoint = Endpoint.parse(url, token, Tls(ssl_context, ca, cert, key, server_name))
        self._transport = AsyncTransport(endpoint, max_connections)
        self._deadline = deadline
        self._cache = AnswerCache(max_age, stale_if_error)
        self._sharing = AsyncSharing()
        self._watching = AsyncWatching(endpoint, deadline, self._cache)
        self._answers_from_memory = watch
        self._turn = count()
        self._responds = True
        self._is_silent = False
        self._failed_at = 0.0
        self._retry_at = 0.0

    async def master(self) -> ChosenHost:
        """The master. NoHostError: there is none. SplitBrainError: several, and none is named."""
        return await self._choose(MASTER)

    async def replica(
        self,
        *,
        lag_ms: int | None = None,
        lag_bytes: int | None = None,
        min_lsn: str | None = None,
        wait_ms: int | None = None,
        fallback: Fallback | None = None,
    ) -> ChosenHost:
        """A live replica within the limits, in turn; if there is none, see ``fallback``.

        ``min_lsn``: the replica has replayed this position, ``HEX/HEX``; ``TIMELINE:HEX/HEX``: and
        follows this timeline. ``wait_ms``: how long pg-status may wait for such a replica.
        ``fallback``: ``master`` (the default of pg-status, unless configured otherwise), ``stale``
        (the replica with the least lag if the master is down) or ``none``.
        """
        return await self._select(
            "/replica",
            lag_ms=lag_ms,
            lag_bytes=lag_bytes,
            min_lsn=min_lsn,
            wait_ms=wait_ms,
            fallback=fallback,
        )

    async def sync_by_time(
        self, *, lag_ms: int | None = None, fallback: Fallback | None = None
    ) -> ChosenHost:
        """A replica that is at most ``lag_ms`` behind, by default the limit of pg-status."""
        return await self._select("/sync_by_time", lag_ms=lag_ms, fallback=fallback)

    async def sync_by_bytes(
        self, *, lag_bytes: int | None = None, fallback: Fallback | None = None
    ) -> ChosenHost:
        """A replica that is at most ``lag_bytes`` behind."""
        return await self._select("/sync_by_bytes", lag_bytes=lag_bytes, fallback=fallback)

    async def sync_by_time_or_bytes(
        self,
        *,
        lag_ms: int | None = None,
        lag_bytes: int | None = None,
        fallback: Fallback | None = None,
    ) -> ChosenHost:
        """A replica within one of the two limits."""
        return await self._select(
            "/sync_by_time_or_bytes", lag_ms=lag_ms, lag_bytes=lag_bytes, fallback=fallback
        )

    async def sync_by_time_and_bytes(
        self,
        *,
        lag_ms: int | None = None,
        lag_bytes: int | None = None,
        fallback: Fallback | None = None,
    ) -> ChosenHost:
        """A replica within both limits."""
        return await self._select(
            "/sync_by_time_and_bytes", lag_ms=lag_ms, lag_bytes=lag_bytes, fallback=fallback
        )

    async def most_sync_by_bytes(
        self, *, lag_bytes: int | None = None, fallback: Fallback | None = None
    ) -> ChosenHost:
        """The replica with the least byte lag."""
        return await self._select("/most_sync_by_bytes", lag_bytes=lag_bytes, fallback=fallback)

    async def hosts(self) -> tuple[HostStatus, ...]:
        """All hosts, in the order of the configuration."""
        return await self._ask(HOSTS, read_hosts)

    async def status(self, host: str) -> HostStatus:
        """One host, ``name`` or ``name:port``. NoHostError: pg-status does not know it."""
        return find_host(await self.hosts(), host)

    @overload
    def watch(self, question: Literal["hosts"] = "hosts") -> AsyncIterator[Hosts]: ...

    @overload
    def watch(
        self,
        question: Question,
        *,
        lag_ms: int | None = None,
        lag_bytes: int | None = None,
        fallback: Fallback | None = None,
    ) -> AsyncIterator[Answer]: ...

    def watch(
        self,
        question: Question | Literal["hosts"] = "hosts",
        *,
        lag_ms: int | None = None,
        lag_bytes: int | None = None,
        fallback: Fallback | None = None,
    ) -> AsyncIterator[Any]:
        """The state of a question, or of all hosts, now and after each change.

        It reconnects by itself, and ends when the client is closed. A slow caller gets the latest
        state only.
        """
        request = watched(question, lag_ms=lag_ms, lag_bytes=lag_bytes, fallback=fallback)
        return self._watching.changes(request)

    @overload
    def on_change(
        self, callback: Callable[[Hosts], None], question: Literal["hosts"]
    ) -> Callable[[], None]: ...

    @overload
    def on_change(
        self,
        callback: Callable[[Answer], None],
        question: Question = "master",
        *,
        lag_ms: int | None = None,
        lag_bytes: int | None = None,
        fallback: Fallback | None = None,
    ) -> Callable[[], None]: ...

    def on_change(
        self,
        callback: Callable[[Any], None],
        question: Question | Literal["hosts"] = "master",
        *,
        lag_ms: int | None = None,
        lag_bytes: int | None = None,
        fallback: Fallback | None = None,
    ) -> Callable[[], None]:
        """Call ``callback`` with the state of a question, or of all hosts, now and when it changes.

        A change of figures such as the lag is none. The client for asyncio calls it in the event
        loop that is running now, the client for threads in a background thread. Exceptions of the
        callback are logged. The result removes the callback; so does closing the client.
        """
        request = watched(question, lag_ms=lag_ms, lag_bytes=lag_bytes, fallback=fallback)
        return self._watching.on_change(request, callback)

    async def close(self) -> None:
        """Wait for the requests in progress, and close the connections. Callbacks are removed.

        Requests in progress end as usual. The next request opens a new connection.
        """
        self._watching.stop()
        await self._sharing.wait()
        await self._transport.close()

    async def __aenter__(self) -> "AsyncPgStatusClient":
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()

    async def _select(self, path: str, **parameters: Any) -> ChosenHost:
        return await self._choose(selection(path, **parameters))

    async def _choose(self, request: Request) -> ChosenHost:
        if self._answers_from_memory and request.min_lsn is None and request.wait_ms is None:
            chosen = self._watching.next(request)
            if chosen is not None:
                return chosen
            self._watching.follow(request)
        return await self._ask(request, read_chosen)

    async def _ask(self, request: Request, read: Callable[[Response], T]) -> T:
        now = clock()
        answer: T | None = self._cache.fresh(request, now)
        if answer is not None:
            return answer
        since = self._cache.usable_since(request, now)
        if since is not None:
            try:
                # A notification may have arrived after pg-status had not responded.
                if self._responds or since > self._failed_at:
                    return await self._share(request, read, min(PATIENCE, self._deadline))
            except NO_ANSWER:
                pass
            self._refresh(request, read)
            previous: T | None = self._cache.usable(request, clock())
            if previous is not None:  # it was not withdrawn in the meantime
                return previous
        if request.min_lsn is not None and self._is_silent and not self._responds:
            # The caller can use the master instead, and would wait for each new position.
            self._refresh(request, read)
            raise DeadlineError("pg-status has not responded; it is asked again in the background")
        return await self._share(request, read, self._deadline + (request.wait_ms or 0) / 1000)

    async def _share(self, request: Request, read: Callable[[Response], T], seconds: float) -> T:
        """Send the request, unless the same one is in progress."""
        # pg-status answers positions by the replicas in turn: not all callers share one answer.
        turn = next(self._turn) % TURNS if request.min_lsn is not None else 0
        answer: T = await self._sharing.run(
            (request, seconds, turn), partial(self._fetch, request, read, seconds)
        )
        return answer

    def _refresh(self, request: Request, read: Callable[[Response], Any]) -> None:
        """Send the request in the background, if it is time to."""
        now = clock()
        if now >= self._retry_at:
            self._retry_at = now + self._deadline + RETRY_SECONDS
            self._sharing.start(
                (request, self._deadline, 0), partial(self._fetch, request, read, self._deadline)
            )

    async def _fetch(self, request: Request, read: Callable[[Response], T], seconds: float) -> T:
        asked_at = clock()
        try:
            answer = read(await self._transport.get(request.target(), seconds))
        except NO_ANSWER as error:
            # A caller with little patience does not know yet whether pg-status responds.
            is_early = isinstance(error, DeadlineError) and seconds < self._deadline
            if not is_early:
                self._is_silent = isinstance(error, DeadlineError)
            self._responds, self._failed_at = False, clock()
            self._retry_at = 0.0 if is_early else clock() + RETRY_SECONDS
            raise
        except WITHDRAWN:
            self._responds = True
            self._cache.forget(request, asked_at)
            raise
        except Exception:
            self._responds = True
            raise
        self._responds = True
        self._cache.store(request, answer, asked_at)
        return answer
