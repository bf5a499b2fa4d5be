"""One interface for both clients, and a server whose responses a test determines."""

import asyncio
import contextlib
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pgstatus.client import AsyncPgStatusClient, ClientError, PgStatusClient
from tests.support.waiting import wait_until

REPLICA = (
    b'{"host": "pg2", "port": 5432, "role": "replica", "lag_ms": 3, "lag_bytes": 0,'
    b' "lsn": "0/3000060"}'
)
HOST = REPLICA.replace(b"pg2", b"pg1").replace(b"replica", b"master")


class Asker:
    """A client of either kind, for use in a synchronous test.

    It sends requests, unless ``watch`` is true, and has a deadline for a busy machine.
    """

    def __init__(self, asynchronous: bool, url: str, **options: Any) -> None:
        kind = AsyncPgStatusClient if asynchronous else PgStatusClient
        self.is_asynchronous = asynchronous
        self.client: Any = kind(url, **{"watch": False, "deadline": 10.0, **options})
        self._loop = asyncio.new_event_loop() if asynchronous else None

    def __call__(self, question: str, **arguments: Any) -> Any:
        answer = getattr(self.client, question)(**arguments)
        return self._loop.run_until_complete(answer) if self._loop else answer

    def on_change(self, callback: Callable[[Any], None], *question: Any, **limits: Any) -> Any:
        """Add a callback; see `until`."""

        async def add() -> Any:
            return self.client.on_change(callback, *question, **limits)

        if self._loop:
            return self._loop.run_until_complete(add())
        return self.client.on_change(callback, *question, **limits)

    def until(self, what: str, predicate: Callable[[], Any]) -> None:
        """Wait for it. The event loop runs meanwhile, as in an application."""

        async def wait() -> None:
            await asyncio.to_thread(wait_until, what, predicate)

        if self._loop:
            self._loop.run_until_complete(wait())
        else:
            wait_until(what, predicate)

    def repeat(self, seconds: float, question: str, **arguments: Any) -> list[tuple[float, Any]]:
        """Call a method every 10 ms, at least once: the duration of each call, its answer or error.

        The event loop runs in between, as in an application.
        """
        ask = getattr(self.client, question)
        until = time.monotonic() + seconds
        calls: list[tuple[float, Any]] = []

        async def repeat() -> None:
            while not calls or time.monotonic() < until:
                began = time.monotonic()
                try:
                    answer = ask(**arguments)
                    if self._loop:
                        answer = await answer
                except ClientError as error:
                    answer = error
                calls.append((time.monotonic() - began, answer))
                await asyncio.sleep(0.01)

        if self._loop:
            self._loop.run_until_complete(repeat())
        else:
            asyncio.run(repeat())
        return calls

    def burst(self, question: str, arguments: list[dict[str, Any]]) -> list[Any]:
        """One call with each of the arguments, all at the same time: the answers."""
        ask = getattr(self.client, question)
        if self._loop:

            async def burst() -> list[Any]:
                return list(await asyncio.gather(*(ask(**each) for each in arguments)))

            return self._loop.run_until_complete(burst())
        with ThreadPoolExecutor(min(len(arguments), 20)) as threads:
            return list(threads.map(lambda each: ask(**each), arguments))

    def at_once(
        self, question: str, count: int, then: Callable[[], None] = lambda: None
    ) -> list[Any]:
        """``count`` concurrent calls; ``then`` runs when all have started. Answers or errors."""
        ask = getattr(self.client, question)
        if self._loop:

            async def together() -> list[Any]:
                callers = [asyncio.ensure_future(ask()) for _ in range(count)]
                await asyncio.sleep(0)  # each call runs until it waits
                then()
                return await asyncio.gather(*callers, return_exceptions=True)

            return self._loop.run_until_complete(together())

        def one(_: int) -> Any:
            try:
                return ask()
            except ClientError as error:
                return error

        with ThreadPoolExecutor(count) as threads:
            answers = threads.map(one, range(count))
            # One sends the request, the others wait for its answer.
            wait_until("all have asked", lambda: _threads_in(Future.result) == count - 1)
            then()
            return list(answers)

    def close(self) -> None:
        self("close")
        if self._loop:
            self._loop.close()


def _threads_in(function: Callable[..., Any]) -> int:
    """The number of threads that are in this function."""
    stacks = (traceback.walk_stack(frame) for frame in sys._current_frames().values())
    return sum(any(f.f_code is function.__code__ for f, _ in stack) for stack in stacks)


AskerFactory = Callable[..., Asker]


class Server:
    """Sends ``answer`` to each request, when ``may_answer`` is set, and counts requests."""

    def __init__(self, listener: socket.socket) -> None:
        self.requests: list[str] = []
        self.connections = 0
        self.answer: bytes = answer(REPLICA)
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.each_byte = 0.0
        self._listener = listener
        self._open: list[socket.socket] = []
        self._stopping = threading.Event()
        listener.settimeout(0.02)
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    def stop(self) -> None:
        self.may_answer.set()
        self._stopping.set()
        self._thread.join()

    def _accept(self) -> None:
        threads = []
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(None)
            self.connections += 1
            self._open.append(connection)
            threads.append(threading.Thread(target=self._serve, args=(connection,)))
            threads[-1].start()
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for connection in self._open:
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        with contextlib.suppress(OSError):
            while more := connection.recv(65536):
                received += more
                if b"\r\n\r\n" in received:
                    self.requests.append(received.decode())
                    received = b""
                    self.may_answer.wait()
                    self._send(connection)

    def _send(self, connection: socket.socket) -> None:
        if not self.each_byte:
            connection.sendall(self.answer)
            return
        for byte in self.answer:
            connection.sendall(bytes([byte]))
            time.sleep(self.each_byte)


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
