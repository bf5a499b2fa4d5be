"""One connection to one NATS server. It ends, and is never made again.

nats-py could reconnect by itself, but gives up after some errors and waits without limit after
others. What remains of an ended connection is aborted here, so that nothing waits for a server that
does not respond.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from nats import errors
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg

from pgstatus.settings.nats import Login, NatsServer

# Its tracebacks are about broken connections, which are logged in one line here.
logging.getLogger("nats").setLevel(logging.CRITICAL)

PONG = 2.0
"""Seconds for the response of a connection on which nothing arrives."""

_PING = 1.0
_CLOSE = 1.0
_PENDING = 8 * 1024 * 1024
"""Bytes that wait to be processed, at most, for each subject."""
# nats-py's own limits do not apply: a response after its limit ends its reading task.
_NEVER = 86_400


class OneClient(Client):
    """A client of nats-py for one address."""

    def __init__(self, report: Callable[[Exception], None]) -> None:
        """``report`` receives errors that do not end the connection."""
        super().__init__()
        self._report = report
        self._ended = asyncio.Event()
        self._last: Exception | None = None
        self._tls_required = False

    async def open(
        self,
        address: str,
        server: NatsServer,
        login: Login,
        tls: ssl.SSLContext | None,
        limit: float,
    ) -> None:
        """Connect within ``limit`` seconds; an exception of nats-py, asyncio or ssl otherwise."""
        host = f"[{address}]" if ":" in address else address
        self._tls_required = tls is not None
        try:
            async with asyncio.timeout(limit):
                await self.connect(
                    f"nats://{host}:{server.port}",
                    name="pg-status",
                    tls=tls,
                    tls_hostname=server.host,
                    user=login.user,
                    password=login.password,
                    token=login.token,
                    user_credentials=RawCredentials(login.creds) if login.creds else None,
                    error_cb=self._failed,
                    closed_cb=self._closed,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=_NEVER,
                    ping_interval=_NEVER,
                )
        except TimeoutError:
            raise TimeoutError(f"no response within {limit:g} s") from None
        except errors.NoServersError:
            raise self._last or OSError("no connection") from None

    @contextlib.asynccontextmanager
    async def subscribed(
        self, handlers: Mapping[str, Callable[[Msg], Awaitable[None]]]
    ) -> AsyncIterator[None]:
        """While this context is entered, messages on these subjects are passed to the handlers."""
        subscriptions = [
            await self.subscribe(subject, cb=handler, pending_bytes_limit=_PENDING)
            for subject, handler in handlers.items()
        ]
        try:
            yield
        finally:
            for subscription in subscriptions:
                with contextlib.suppress(errors.Error):  # the connection has ended
                    await subscription.unsubscribe()

    async def end(self) -> str:
        """Wait until the connection has ended or the server does not respond; the reason."""
        received = -1
        while not await self._ends_within(_PING):
            if received != (received := self.stats["in_msgs"]):
                continue
            try:
                async with asyncio.timeout(PONG):
                    await self.flush(_NEVER)
            except TimeoutError:
                return f"no response for {PONG:g} s"
            except (errors.Error, OSError):
                break
        return reason(self._last) if self._last is not None else "closed by the server"

    def leave(self, text: str) -> None:
        """End it for this reason."""
        self._last = errors.Error(text)
        self._ended.set()

    async def abandon(self) -> None:
        """Close it in any state."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLOSE):
                await self.close()

    def _connect_command(self) -> bytes:
        # Called before anything is sent. A server, or what is between, may not offer TLS.
        if self._tls_required and not self._server_info.get("tls_required"):
            raise errors.Error("nats: the server does not offer TLS")
        return super()._connect_command()

    async def _ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        return self._ended.is_set()

    async def _failed(self, error: Exception) -> None:
        if self.is_connected:
            self._report(error)
        self._last = error

    async def _closed(self) -> None:
        self._ended.set()


def reason(error: Exception) -> str:
    """The message of an error of nats-py, asyncio or ssl."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio's text is "Connect call failed"
    if isinstance(error, socket.gaierror) and error.strerror:
        return error.strerror
    return str(error).removeprefix("nats: ").strip("'") or type(error).__name__
