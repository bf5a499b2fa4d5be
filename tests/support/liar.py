"""A host that speaks PostgreSQL's protocol and responds to every query as the test wants.

It takes the place of a real server where none can be made to send invalid data.
Source: PostgreSQL manual, "Message Formats".
"""

import contextlib
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

_TEXT = 25

# The row of a real primary: see `pgstatus.monitor.facts`.
HONEST: dict[str, bytes | None] = {
    "in_recovery": b"f",
    "host_time": b"1700000000500000",
    "replayed": None,
    "written": b"0/3000060",
    "wal_file": b"000000010000000000000003",
    "replay_time": None,
    "received": None,
    "receiving": None,
    "received_timeline": None,
    "latest_end": None,
    "sender_host": None,
    "sender_port": None,
    "system_identifier": b"7000000000000000001",
    "timeline": b"1",
    "checkpoint": b"0/2000028",
    "checkpoint_time": b"1700000000000000",
    "next_xid": b"0:753",
    "recovery_timeline": None,
    "standbys": None,
    "address": None,
}

# Of a standby that streams.
STREAMING: dict[str, bytes | None] = HONEST | {
    "in_recovery": b"t",
    "replayed": b"0/3000060",
    "written": None,
    "wal_file": None,
    "received": b"0/3000060",
    "receiving": b"t",
    "received_timeline": b"1",
    "latest_end": b"0/3000060",
    "sender_host": b"pg1",
    "sender_port": b"5432",
}


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


READY = message(b"Z", b"I")
GREETING = message(b"R", struct.pack("!I", 0)) + READY


def description(columns: int) -> bytes:
    """The names and types of so many columns."""
    column = b"column\0" + struct.pack("!IhIhih", 0, 0, _TEXT, -1, -1, 0)
    return message(b"T", struct.pack("!H", columns) + columns * column)


def data(values: Sequence[bytes | None]) -> bytes:
    """One row."""
    body = struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1 if value is None else len(value)) + (value or b"")
    return message(b"D", body)


def row(values: Sequence[bytes | None]) -> bytes:
    """The response with one row."""
    complete = message(b"C", b"SELECT 1\0")
    return description(len(values)) + data(values) + complete + READY


def honest(**changes: bytes | None) -> bytes:
    """The response of a primary, but for these columns."""
    return row(list((HONEST | changes).values()))


def complaint(text: bytes) -> bytes:
    """The response with an error."""
    return message(b"E", b"SERROR\0VERROR\0C22000\0M" + text + b"\0\0") + READY


Respond = Callable[[BinaryIO], object]
"""Writes to a client until it returns or the client closes the connection."""


@contextlib.contextmanager
def liar(
    address: str, answer: bytes | Respond, greeting: bytes | Respond = GREETING
) -> Iterator[int]:
    """Listens at the address; yields the port. ``answer`` follows each query."""

    def send(what: bytes | Respond, client: BinaryIO) -> None:
        if isinstance(what, bytes):
            client.write(what)
        else:
            what(client)

    class Talk(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while True:
                head = self.rfile.read(8)
                if len(head) < 8:
                    return
                length, code = struct.unpack("!II", head)
                self.rfile.read(length - 8)
                if code >> 16 == 3:  # a start-up, not a request for encryption
                    break
                self.wfile.write(b"N")
            send(greeting, self.wfile)  # type: ignore[arg-type]
            while len(head := self.rfile.read(5)) == 5:
                self.rfile.read(struct.unpack("!I", head[1:])[0] - 4)
                if head[:1] == b"Q":
                    send(answer, self.wfile)  # type: ignore[arg-type]

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that closes the connection is no error."""

    with Server((address, 0), Talk) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
