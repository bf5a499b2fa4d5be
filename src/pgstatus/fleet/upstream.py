"""A source of evidence: ``/evidence`` of another pg-status, over HTTP.

The watcher may be anything that listens at this address: every error ends the connection with a
readable reason, and another one is made later.
"""

import asyncio
import json
import logging
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator
from math import inf

import h11

from pgstatus import __version__, clock
from pgstatus.errors import in_a_line
from pgstatus.fleet.document import MAX_SIZE, DocumentError, decode
from pgstatus.fleet.evidence import SILENCE
from pgstatus.fleet.source import Receiver
from pgstatus.fleet.sse import Events, EventTooLargeError
from pgstatus.monitor.resolver import Resolver
from pgstatus.settings.upstream import Address

log = logging.getLogger(__name__)

# Seconds until a connection is established and the head of the response received.
_CONNECT = 3.0
# Seconds that the first, complete document may take.
_FIRST = 10.0
# Seconds until the stream is requested again: names are resolved again, and the difference of the
# clocks is measured again.
_LIFETIME = 300.0
# If the first document took longer than this, the difference of the clocks is not known well, and
# the stream is requested again soon: after so many seconds, then after twice as many.
_SLOW, _SOON = 0.25, 2.0
# Seconds between two attempts to connect.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
# Seconds between two requests for positions.
_BETWEEN_REQUESTS = 0.002
_MAX_HEAD = 32 * 1024
_MAX_ERROR = 4096
_CHUNK = 64 * 1024


class UpstreamError(Exception):
    """Not a usable response; the message is readable text."""


class Upstream:
    """One watcher. `run` is to be run once; all methods belong to the event loop."""

    def __init__(self, address: Address) -> None:
        self.name = address.name
        self._address = address
        self._resolver = Resolver(address.host)
        self._soon = _SOON
        self._positions_until = -inf
        self._positions_wanted = asyncio.Event()

    async def run(self, receiver: Receiver) -> None:
        """Deliver documents until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._request_positions())
            await self._follow(receiver)

    def request_positions(self, seconds: float) -> None:
        self._positions_until = max(self._positions_until, clock.now() + seconds)
        self._positions_wanted.set()

    async def _follow(self, receiver: Receiver) -> None:
        pause = _SHORTEST_PAUSE
        while True:
            try:
                is_to_renew = await self._receive(receiver)
            except Exception as error:  # whatever it sends, it only loses its connection
                receiver.lost(self.name, reason_of(error))
                # Many relays lose the same watcher at the same moment.
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = _SHORTEST_PAUSE
                if not is_to_renew:
                    # It has reloaded its configuration, or stops.
                    await asyncio.sleep(random.uniform(0, 2 * _SHORTEST_PAUSE))  # noqa: S311

    async def _receive(self, receiver: Receiver) -> bool:
        """Deliver the documents of one connection until it ends.

        False: the upstream has ended it.
        """
        async with _Connection(self._address, self._resolver) as connection:
            async with asyncio.timeout(_CONNECT):
                await connection.open()
                asked = clock.now()
                await connection.request("/evidence", "text/event-stream")
                await connection.expect_events()
            return await self._deliver(connection, receiver, asked)

    async def _deliver(self, connection: "_Connection", receiver: Receiver, asked: float) -> bool:
        events, after, until = Events(MAX_SIZE), asked, inf
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_FIRST) as deadline:
                async for data in connection.body():
                    at = clock.now()
                    for event in events.feed(data):
                        receiver.received(self.name, decode(event), at, after=after)
                        if after > -inf:
                            after, until = -inf, at + self._time_to_renew(at - asked)
                        deadline.reschedule(loop.time() + SILENCE)
                    if at >= until:
                        return True
        except TimeoutError:
            seconds = _FIRST if after > -inf else SILENCE
            raise UpstreamError(f"no document for {seconds:.0f} s") from None
        if after > -inf:
            raise UpstreamError("connection closed before the first document")
        return False

    def _time_to_renew(self, took: float) -> float:
        """How long to use the stream whose first document took so many seconds."""
        soon = min(self._soon, _LIFETIME)
        self._soon = 2 * soon if took > _SLOW else _SOON
        return (soon if took > _SLOW else _LIFETIME) * random.uniform(0.9, 1.1)  # noqa: S311

    async def _request_positions(self) -> None:
        """Pass requests for positions on, one after the other, on a connection that is kept."""
        while True:
            await self._positions_wanted.wait()
            if self._positions_until <= clock.now():
                self._positions_wanted.clear()
                continue
            is_kept = False
            try:
                async with _Connection(self._address, self._resolver) as connection:
                    async with asyncio.timeout(_CONNECT):
                        await connection.open()
                    while True:
                        await self._positions_wanted.wait()
                        self._positions_wanted.clear()
                        async with asyncio.timeout(_CONNECT):
                            await self._request(connection)
                        is_kept = True
                        # The requests of a moment are one.
                        await asyncio.sleep(_BETWEEN_REQUESTS)
            except Exception as error:  # the stream reports what is wrong with the watcher
                log.debug("%s: positions cannot be requested: %s", self.name, reason_of(error))
                # A connection that was kept may have been closed before this request.
                self._positions_wanted.set()
                if not is_kept:
                    await asyncio.sleep(_SHORTEST_PAUSE)

    async def _request(self, connection: "_Connection") -> None:
        wait_ms = round((self._positions_until - clock.now()) * 1000)
        if wait_ms > 0:
            await connection.request(f"/evidence/positions?wait_ms={wait_ms}", "*/*")
            await connection.expect_no_content()


class _Connection:
    """One HTTP/1.1 connection."""

    def __init__(self, address: Address, resolver: Resolver) -> None:
        self._address = address
        self._resolver = resolver
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> "_Connection":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None:
            # An upstream that does not respond must not delay the next attempt.
            self._writer.transport.abort()

    async def open(self) -> None:
        """Connect to the first address that accepts it; OSError or TimeoutError: none does."""
        addresses = await self._resolver.addresses()
        failure: Exception = OSError("the name has no address")
        for address in addresses:
            try:
                async with asyncio.timeout(_CONNECT / len(addresses)):
                    self._reader, self._writer = await self._open(address)
                    return
            except OSError as error:  # also TimeoutError and ssl.SSLError
                failure = error
        raise failure

    async def _open(self, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if address.startswith("/"):
            return await asyncio.open_unix_connection(address, limit=_CHUNK)
        tls, name = self._address.tls, self._address.host
        return await asyncio.open_connection(
            address,
            self._address.port,
            ssl=tls,
            server_hostname=name if tls else None,
            ssl_handshake_timeout=_CONNECT if tls else None,
            limit=_CHUNK,
        )

    async def request(self, path: str, accept: str) -> None:
        headers = [
            ("Host", self._address.authority),
            ("User-Agent", f"pg-status/{__version__}"),
            ("Accept", accept),
            ("Accept-Encoding", "identity"),
        ]
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        if self._address.token is not None:
            encoded.append((b"Authorization", b"Bearer " + self._address.token))
        target = f"{self._address.path}{path}"
        await self._send(h11.Request(method=b"GET", target=target.encode(), headers=encoded))
        await self._send(h11.EndOfMessage())

    async def expect_events(self) -> None:
        """Read the head of a response; UpstreamError unless it is an event stream."""
        response = await self._head()
        if response.status_code != 200:
            raise UpstreamError(await self._refusal(response))
        media_type = _header(response, b"content-type").partition(";")[0].strip().lower()
        encoding = _header(response, b"content-encoding")
        if encoding.lower() not in {"", "identity"}:
            raise UpstreamError(f"compressed ({encoding}) although this was not accepted")
        if media_type != "text/event-stream":
            raise UpstreamError(
                f"not the evidence of a pg-status: media type {media_type or 'unknown'}"
            )

    async def expect_no_content(self) -> None:
        """Read a response without a body; the connection can be used again."""
        response = await self._head()
        if response.status_code != 204:
            raise UpstreamError(await self._refusal(response))
        async for _ in self.body():
            pass
        self._http.start_next_cycle()

    async def body(self) -> AsyncIterator[bytes]:
        """The parts of the body, until its end or that of the connection."""
        while True:
            event = await self._next()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return

    async def _head(self) -> h11.Response:
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise UpstreamError("connection closed without a response")

    async def _refusal(self, response: h11.Response) -> str:
        """What the upstream reports instead of evidence."""
        status = f"{response.status_code} {response.reason.decode('latin-1')}".strip()
        if 300 <= response.status_code < 400:
            return f"{status}: redirected to {_header(response, b'location')}; not followed"
        body = b""
        async for data in self.body():
            body += data
            if len(body) >= _MAX_ERROR:
                break
        text = _error_text(body)
        if not text and response.status_code == 404:
            text = "no evidence at this address; it requires a pg-status that supports relays"
        return f"{status}: {text}" if text else status

    async def _next(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._reader.read(_CHUNK)
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise UpstreamError("connection closed without a response")
            self._http.receive_data(data)
        return event

    async def _send(self, event: h11.Request | h11.EndOfMessage) -> None:
        data = self._http.send(event)
        if data and self._writer is not None:
            self._writer.write(data)
            await self._writer.drain()


def _header(response: h11.Response, name: bytes) -> str:
    return next(
        (value.decode("latin-1") for key, value in response.headers if key.lower() == name), ""
    )


def _error_text(body: bytes) -> str:
    """``error_text`` of a response of pg-status."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    text = content.get("error_text") if isinstance(content, dict) else None
    return text if isinstance(text, str) else ""


def reason_of(error: Exception) -> str:
    """Why no documents arrive, on one line."""
    match error:
        case UpstreamError() | EventTooLargeError():
            text = str(error)
        case DocumentError():
            text = f"invalid evidence: {error}"
        case TimeoutError():
            text = "no response in time"
        case h11.RemoteProtocolError():
            text = f"invalid HTTP response: {error}"
        case ssl.SSLCertVerificationError():
            text = f"TLS: {error.verify_message}"
        case ssl.SSLError():
            text = f"TLS: {error.reason or error}"
        case socket.gaierror():
            text = error.strerror or str(error)
        case OSError():
            # asyncio describes the call.
            text = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        case _:
            text = f"unexpected {type(error).__name__}: {error}"
    return in_a_line(text or type(error).__name__)
