"""An upstream that is not a watcher, or a broken one: a readable reason, and no harm."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from pgstatus import clock
from pgstatus.fleet.document import Document, encode
from pgstatus.fleet.upstream import Upstream
from pgstatus.settings.upstream import Address, parse_address
from tests.support.certificates import Certificates

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
DOCUMENT = Document(
    watcher="a",
    name="w",
    version="1",
    sent=5.0,
    complete=True,
    results=(),
    memory=None,
    ready=True,
)


class Receiver:
    """Notes what it receives."""

    def __init__(self) -> None:
        self.documents: list[tuple[Document, float, float]] = []
        self.reasons: list[str] = []
        self.changed = asyncio.Event()

    def received(self, source: str, document: Document, at: float, *, after: float = -inf) -> None:
        self.documents.append((document, at, after))
        self.changed.set()

    def lost(self, source: str, reason: str) -> None:
        self.reasons.append(reason)
        self.changed.set()

    async def wait_for(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(15):
            while not predicate():
                await self.changed.wait()
                self.changed.clear()


async def follow(
    handler: Handler,
    until: Callable[[Receiver], bool],
    server_tls: ssl.SSLContext | None = None,
    scheme: str = "http",
    **options: object,
) -> Receiver:
    """Follow a server until the predicate is true."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await handler(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_tls)
    port = server.sockets[0].getsockname()[1]
    address = replace(
        parse_address(f"{scheme}://127.0.0.1:{port}"),
        **options,  # type: ignore[arg-type]
    )
    receiver = await _run(address, until)
    server.close()
    return receiver


async def _run(address: Address, until: Callable[[Receiver], bool]) -> Receiver:
    receiver = Receiver()
    task = asyncio.create_task(Upstream(address).run(receiver))
    try:
        await receiver.wait_for(lambda: until(receiver))
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return receiver


def reason(handler: Handler, **options: object) -> str:
    """Why nothing is received from this server."""
    receiver = asyncio.run(follow(handler, lambda r: bool(r.reasons), **options))  # type: ignore[arg-type]
    assert not receiver.documents
    return receiver.reasons[0]


def sends(data: bytes, *, forever: bool = False) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        while forever:
            writer.write(data)
            await writer.drain()

    return handler


def response(status: str, body: bytes = b"", *headers: str) -> Handler:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""])
    return sends(head.encode() + body)


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (
            response("401 Unauthorized", b'{"error_text": "invalid token"}'),
            "401 Unauthorized: invalid token",
        ),
        (response("404 Not Found"), "404 Not Found: no evidence at this address"),
        (
            response("404 Not Found", b'{"error_text": "unknown cluster x"}'),
            "404 Not Found: unknown cluster x",
        ),
        (
            response("302 Found", b"", "Location: http://elsewhere/"),
            "302 Found: redirected to http://elsewhere/; not followed",
        ),
        (response("500 Oh\x07No", b"[" * 4000), "invalid HTTP response"),
        (response("503 Unavailable", b"[" * 100_000), "503 Unavailable"),
        (
            response("200 OK", b"<html>", "Content-Type: text/html"),
            "not the evidence of a pg-status: media type text/html",
        ),
        (response("200 OK", b"{}"), "not the evidence of a pg-status: media type unknown"),
        (sends(b""), "connection closed"),
        (sends(HEAD), "connection closed before the first document"),
        (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), "invalid HTTP response"),
        (sends(b"\x00" * 1000), "invalid HTTP response"),
        (sends(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000), "invalid HTTP response"),
        (sends(HEAD + b"data: {}\n\n"), "invalid evidence: "),
        (sends(HEAD + b"data: [1\n\n"), "invalid evidence: not JSON"),
        (sends(HEAD + b'data: {"format": 99}\n\n'), "format 99 is newer than 1"),
        (sends(HEAD + b"x" * 5_000_000, forever=True), "an event is larger than"),
    ],
)
def test_a_server_that_is_no_watcher(handler: Handler, text: str) -> None:
    assert text in reason(handler)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 102 Processing\r\n\r\n"])
def test_a_server_that_does_not_respond(head: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await reader.read()

    assert reason(handler) == "no response in time"


def test_a_watcher_that_falls_silent() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"data: " + encode(DOCUMENT) + b"\n\n")
        for _ in range(100):
            # Bytes are no documents.
            await asyncio.sleep(0.1)
            writer.write(b": comment\n")

    receiver = asyncio.run(follow(handler, lambda r: bool(r.reasons)))
    assert receiver.reasons == ["no evidence for 3 s"]
    assert len(receiver.documents) == 1


def test_documents_are_delivered_with_the_moment_of_the_request() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"retry: 1000\n\n")
        for sent in (5.0, 6.0):
            event = (
                b"event: evidence\r\ndata: " + encode(replace(DOCUMENT, sent=sent)) + b"\r\n\r\n"
            )
            for start in range(0, len(event), 7):
                writer.write(event[start : start + 7])
                await writer.drain()
        await reader.read()

    began = clock.now()
    receiver = asyncio.run(follow(handler, lambda r: len(r.documents) == 2))
    (first, at, after), (second, _, later) = receiver.documents
    assert (first.sent, second.sent) == (5.0, 6.0)
    assert began <= after <= at <= clock.now()
    assert later == -inf
    assert not receiver.reasons


def test_a_stream_that_ends_is_requested_again() -> None:
    handler = sends(HEAD + b"data: " + encode(DOCUMENT) + b"\n\n")
    receiver = asyncio.run(follow(handler, lambda r: len(r.documents) == 3))
    assert not receiver.reasons
    assert all(after > -inf for _, _, after in receiver.documents)


def test_an_address_that_refuses_connections() -> None:
    address = parse_address("http://127.0.0.1:9")
    receiver = asyncio.run(_run(address, lambda r: len(r.reasons) == 2))
    assert receiver.reasons == ["Connection refused"] * 2


def test_a_name_that_does_not_exist() -> None:
    address = parse_address("http://nowhere.invalid:8000")
    receiver = asyncio.run(_run(address, lambda r: bool(r.reasons)))
    assert receiver.reasons[0]


def test_the_request(tmp_path: Path) -> None:
    async def scenario() -> bytes:
        requests: list[bytes] = []

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(HEAD + b"data: " + encode(DOCUMENT) + b"\n\n")

        path = str(tmp_path / "socket")
        server = await asyncio.start_unix_server(handle, path)
        address = replace(
            parse_address(f"unix:{path}"), path="/c/orders", token=b"0123456789abcdef"
        )
        await _run(address, lambda r: bool(r.documents))
        server.close()
        return requests[0]

    head, *headers = asyncio.run(scenario()).decode().strip().split("\r\n")
    assert head == "GET /c/orders/evidence HTTP/1.1"
    assert "Authorization: Bearer 0123456789abcdef" in headers
    assert "Host: localhost" in headers


def test_positions_are_requested_on_a_kept_connection() -> None:
    async def scenario() -> list[str]:
        paths: list[str] = []

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    request = await reader.readuntil(b"\r\n\r\n")
                    path = request.split()[1].decode()
                    if path == "/evidence":
                        writer.write(HEAD + b"data: " + encode(DOCUMENT) + b"\n\n")
                    else:
                        paths.append(
                            f"{path.partition('=')[0]} {writer.get_extra_info('peername')}"
                        )
                        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        upstream = Upstream(parse_address(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        task = asyncio.create_task(upstream.run(Receiver()))
        async with asyncio.timeout(10):
            while len(paths) < 3:
                upstream.request_positions(1.0)
                await asyncio.sleep(0.01)
        task.cancel()
        server.close()
        return paths

    paths = asyncio.run(scenario())
    assert len(set(paths)) == 1
    assert paths[0].startswith("/evidence/positions?wait_ms ")


def test_certificates(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path, "127.0.0.1")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificates.cert, certificates.key)
    handler = sends(HEAD + b"data: " + encode(DOCUMENT) + b"\n\n")

    def followed(context: ssl.SSLContext) -> Receiver:
        return asyncio.run(
            follow(handler, lambda r: bool(r.reasons or r.documents), server, "https", tls=context)
        )

    assert followed(certificates.context()).documents
    unknown = followed(ssl.create_default_context())
    assert unknown.reasons[0].startswith("TLS: unable to get local issuer certificate")


def test_a_server_without_tls() -> None:
    text = reason(sends(HEAD), scheme="https", tls=ssl.create_default_context())
    assert text.startswith("TLS: ")
