"""An upstream that is not a watcher, or a broken one: a readable reason, and no harm."""

import asyncio
import contextlib
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from pgstatus import clock
from pgstatus.fleet.document import Document, encode
from pgstatus.fleet.upstream import Upstream, reason_of
from pgstatus.settings.upstream import Address, parse_address
from tests.support.certificates import Certificates

Handler = Callable[[socket.socket], None]

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
EVENT = b"data: " + encode(DOCUMENT) + b"\n\n"


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


@contextlib.contextmanager
def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that calls ``handler`` for each connection, in a thread; its port."""

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                connection = self.request
                if tls is not None:
                    connection = tls.wrap_socket(connection, server_side=True)
                with connection:
                    handler(connection)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Connection) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def follow(
    handler: Handler,
    until: Callable[[Receiver], bool],
    *,
    server_tls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
) -> Receiver:
    """Follow a server until the predicate is true."""
    with serving(handler, server_tls) as port:
        scheme = "http" if tls is None else "https"
        address = replace(parse_address(f"{scheme}://127.0.0.1:{port}"), tls=tls)
        return asyncio.run(_run(address, until))


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


def reason(handler: Handler, tls: ssl.SSLContext | None = None) -> str:
    """Why nothing is received from this server."""
    receiver = follow(handler, lambda r: bool(r.reasons), tls=tls)
    assert not receiver.documents
    return receiver.reasons[0]


def read_request(connection: socket.socket) -> bytes:
    """The head of a request; empty if there is none."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        received = connection.recv(65536)
        if not received:
            return b""
        data += received
    return data


def sends(data: bytes, *, forever: bool = False) -> Handler:
    """A server that sends this to every client."""

    def handler(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(data)
        while forever:
            connection.sendall(data)

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
        (response("500 Oh\x07No", b"[" * 4000), "500 Oh No"),
        (response("503 Unavailable", b"[" * 100_000), "503 Unavailable"),
        (
            response("200 OK", b"<html>", "Content-Type: text/html"),
            "not the evidence of a pg-status: media type text/html",
        ),
        (response("200 OK", b"{}"), "not the evidence of a pg-status: media type unknown"),
        (
            response("200 OK", b"", "Content-Type: text/event-stream", "Content-Encoding: gzip"),
            "compressed (gzip) although this was not accepted",
        ),
        (
            response("200 OK", b"data: {}\n\n", "Content-Type: Text/Event-Stream ; charset=utf-8"),
            "invalid evidence: not evidence of pg-status",
        ),
        (sends(b""), "connection closed"),
        (sends(HEAD), "connection closed before the first document"),
        (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), "connection closed without a response"),
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
    def handler(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head)
        connection.recv(1)

    assert reason(handler) == "no response in time"


def test_a_watcher_that_falls_silent() -> None:
    def handler(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(HEAD + EVENT)
        while True:
            # Bytes are no documents.
            time.sleep(0.1)
            connection.sendall(b": comment\n")

    receiver = follow(handler, lambda r: bool(r.reasons))
    assert receiver.reasons == ["no document for 3 s"]
    assert len(receiver.documents) == 1


def test_documents_are_delivered_with_the_moment_of_the_request() -> None:
    def handler(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(HEAD + b"retry: 1000\n\n")
        for sent in (5.0, 6.0):
            document = encode(replace(DOCUMENT, sent=sent))
            event = b"event: evidence\r\ndata: " + document + b"\r\n\r\n"
            for start in range(0, len(event), 7):
                connection.sendall(event[start : start + 7])
        connection.recv(1)

    began = clock.now()
    receiver = follow(handler, lambda r: len(r.documents) == 2)
    (first, at, after), (second, _, later) = receiver.documents
    assert (first.sent, second.sent) == (5.0, 6.0)
    assert began <= after <= at <= clock.now()
    assert later == -inf
    assert not receiver.reasons


def test_a_stream_that_ends_is_requested_again() -> None:
    receiver = follow(sends(HEAD + EVENT), lambda r: len(r.documents) == 3)
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


def test_the_scheme_of_a_url_may_have_capital_letters() -> None:
    assert parse_address("HTTPS://w1:8000").is_tls
    assert not parse_address("HTTP://w1:8000").is_tls


def test_the_request() -> None:
    requests: list[bytes] = []

    def handler(connection: socket.socket) -> None:
        requests.append(read_request(connection))
        connection.sendall(HEAD + EVENT)

    with serving(handler) as port:
        address = parse_address(f"http://127.0.0.1:{port}/c/orders/")
        address = replace(address, token=b"0123456789abcdef")
        asyncio.run(_run(address, lambda r: bool(r.documents)))
    head, *headers = requests[0].decode().strip().split("\r\n")
    assert head == "GET /c/orders/evidence HTTP/1.1"
    assert "Authorization: Bearer 0123456789abcdef" in headers
    assert f"Host: 127.0.0.1:{port}" in headers


def test_positions_are_requested_on_a_kept_connection() -> None:
    found: list[tuple[bytes, object]] = []

    def handler(connection: socket.socket) -> None:
        while request := read_request(connection):
            path = request.split()[1]
            if path == b"/evidence":
                connection.sendall(HEAD + EVENT)
                connection.recv(1)
            found.append((path.partition(b"=")[0], connection.getpeername()))
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    async def scenario(port: int) -> None:
        upstream = Upstream(parse_address(f"http://127.0.0.1:{port}"))
        task = asyncio.create_task(upstream.run(Receiver()))
        async with asyncio.timeout(10):
            while len(found) < 3:
                upstream.request_positions(1.0)
                await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with serving(handler) as port:
        asyncio.run(scenario(port))
    assert len(set(found[:3])) == 1
    assert found[0][0] == b"/evidence/positions?wait_ms"


def test_a_request_for_positions_survives_the_end_of_a_kept_connection() -> None:
    found: list[object] = []

    def handler(connection: socket.socket) -> None:
        request = read_request(connection)
        if b" /evidence " in request:
            connection.sendall(HEAD + EVENT)
            connection.recv(1)
        elif request:
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            found.append(connection.getpeername())

    async def scenario(port: int) -> None:
        upstream = Upstream(parse_address(f"http://127.0.0.1:{port}"))
        task = asyncio.create_task(upstream.run(Receiver()))
        async with asyncio.timeout(10):
            for number in range(1, 5):
                upstream.request_positions(10.0)
                while len(found) < number:  # noqa: ASYNC110  # another thread changes it
                    await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with serving(handler) as port:
        asyncio.run(scenario(port))
    assert len(set(found)) == 4


def test_a_stream_whose_first_document_took_long_is_soon_requested_again() -> None:
    asked: list[float] = []

    def handler(connection: socket.socket) -> None:
        if b" /evidence " not in read_request(connection):
            return
        asked.append(clock.now())
        if len(asked) == 1:
            time.sleep(0.6)
        connection.sendall(HEAD)
        while True:  # until the client is gone
            connection.sendall(EVENT)
            time.sleep(0.2)

    receiver = follow(handler, lambda r: sum(after > -inf for _, _, after in r.documents) == 2)
    assert not receiver.reasons


def test_certificates(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path, "127.0.0.1")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificates.cert, certificates.key)

    def followed(tls: ssl.SSLContext) -> Receiver:
        until: Callable[[Receiver], bool] = lambda r: bool(r.reasons or r.documents)  # noqa: E731
        return follow(sends(HEAD + EVENT), until, server_tls=server, tls=tls)

    assert followed(certificates.context()).documents
    unknown = followed(ssl.create_default_context())
    assert unknown.reasons[0].startswith("TLS: unable to get local issuer certificate")


def test_a_server_without_tls() -> None:
    def handler(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert reason(handler, ssl.create_default_context()).startswith("TLS: ")


def test_a_name_that_cannot_be_resolved_is_plain_text() -> None:
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert reason_of(error) == "Name or service not known"
