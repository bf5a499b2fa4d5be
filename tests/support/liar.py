"""A host that speaks PostgreSQL's protocol and answers every query with one row of our choice.

It stands in because no real server can be made to send values that are not of their type.
Source: PostgreSQL manual, "Message Formats".
"""

import contextlib
import socketserver
import struct
import threading
from collections.abc import Iterator, Sequence

BOOL, INT8, INT4, TEXT, FLOAT8, NUMERIC = 16, 20, 23, 25, 701, 1700
Column = tuple[int, bytes | None]
"""The type that is announced, and the text that is sent."""

# What an honest primary says: see the query in `pgstatus.monitor.probe`.
HONEST: tuple[Column, ...] = (
    (BOOL, b"f"),
    (TEXT, b"0/3000060"),
    (TEXT, b"000000010000000000000003"),
    (INT8, b"0"),
    (INT4, None),
    (FLOAT8, b"1700000000.5"),
    (FLOAT8, None),
    (INT8, b"7000000000000000001"),
    (INT4, None),
)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


_READY = _message(b"Z", b"I")
_GREETING = _message(b"R", struct.pack("!I", 0)) + _READY


def row(columns: Sequence[Column]) -> bytes:
    """The answer with one row."""
    description = struct.pack("!H", len(columns))
    data = struct.pack("!H", len(columns))
    for oid, text in columns:
        description += b"column\0" + struct.pack("!IhIhih", 0, 0, oid, -1, -1, 0)
        data += struct.pack("!i", -1 if text is None else len(text)) + (text or b"")
    return (
        _message(b"T", description) + _message(b"D", data) + _message(b"C", b"SELECT 1\0") + _READY
    )


def complaint(text: bytes) -> bytes:
    """The answer with an error."""
    fields = b"SERROR\0VERROR\0C22000\0M" + text + b"\0\0"
    return _message(b"E", fields) + _READY


@contextlib.contextmanager
def liar(address: str, answer: bytes) -> Iterator[int]:
    """Listens at the address; yields the port."""

    class Talk(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while True:
                length, code = struct.unpack("!II", self.rfile.read(8))
                self.rfile.read(length - 8)
                if code >> 16 == 3:  # a start, and no question about encryption
                    break
                self.wfile.write(b"N")
            self.wfile.write(_GREETING)
            while len(head := self.rfile.read(5)) == 5:
                self.rfile.read(struct.unpack("!I", head[1:])[0] - 4)
                if head[:1] == b"Q":
                    self.wfile.write(answer)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Whoever hangs up in the middle is no news."""

    with Server((address, 0), Talk) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
