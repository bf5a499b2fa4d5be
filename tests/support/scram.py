"""A host that demands an expensive login: SCRAM with as many iterations as the test wants.

libpq computes them without interruption, in C, whatever the time limit of its caller.
Sources: PostgreSQL manual, "Message Formats"; RFC 5802.
"""

import contextlib
import re
import socketserver
import struct
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def expensive_login(address: str, port: int = 0, iterations: int = 40_000_000) -> Iterator[int]:
    """Listen at the address; yields the port."""

    class Login(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while True:
                length, code = struct.unpack("!II", self.rfile.read(8))
                self.rfile.read(length - 8)
                if code >> 16 == 3:  # a start-up message, not a request for encryption
                    break
                self.wfile.write(b"N")
            self._send(10, b"SCRAM-SHA-256\0\0")
            nonce = re.search(rb"r=([^,]+)", self._receive())
            assert nonce is not None
            self._send(11, b"r=%s-server,s=c2FsdA==,i=%d" % (nonce[1], iterations))
            self._receive()

        def _send(self, code: int, data: bytes) -> None:
            self.wfile.write(b"R" + struct.pack("!II", len(data) + 8, code) + data)

        def _receive(self) -> bytes:
            _, length = struct.unpack("!cI", self.rfile.read(5))
            return self.rfile.read(length - 4)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that disconnects is not an error."""

    with Server((address, port), Login) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
