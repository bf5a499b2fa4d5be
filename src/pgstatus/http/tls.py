"""A TLS connection on a non-blocking socket. Source: RFC 8446 (TLS 1.3)."""

import socket
import ssl

from pgstatus.http.loop import READ, WRITE

# The size of a TLS record, and of one receive.
_RECORD = _RECEIVE = 16 * 1024


class TlsSocket:
    """A TLS connection that behaves as a plain socket that never blocks: `BlockingIOError`.

    OpenSSL works on memory, not on the socket. Otherwise it would read for as long as a client
    sends records without data (key updates), and block the event loop.
    """

    __slots__ = (
        "_arrived", "_ended", "_owed", "_ready", "_sock", "_tls", "_to_send", "_written", "fileno",
        "setsockopt", "shutdown",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self.fileno = sock.fileno
        self.setsockopt = sock.setsockopt
        self.shutdown = sock.shutdown
        self._arrived, self._written = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._written, server_side=True)
        self._to_send = b""
        """Encrypted, not taken by the client."""
        self._owed = 0
        """The number of plain bytes in it."""
        self._ready = b""
        """Decrypted together with the end of the handshake."""
        self._ended = False
        """The client has closed its side."""

    def shake_hands(self) -> int:
        """Continue the handshake; the event to wait for, READ or WRITE; 0: it is complete.

        OSError: it failed.
        """
        done = False
        try:
            data = self._sock.recv(_RECEIVE)
        except BlockingIOError:
            pass
        else:
            if not data:
                raise ConnectionResetError("the client closed the connection during the handshake")
            self._arrived.write(data)
        try:
            self._tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        finally:
            # Also if it fails: an alert with the reason is sent.
            flushed = self._flush()
        if not flushed:
            return WRITE
        if done:
            self._ready = self._decrypted()
        return 0 if done else READ

    @property
    def has_certificate(self) -> bool:
        """The client presented a valid certificate."""
        return bool(self._tls.getpeercert())

    def recv(self, size: int) -> bytes:
        """The data in at most ``size`` received bytes; empty: the client has closed its side."""
        if not self._ready:
            received = self._sock.recv(size)
            if not received:
                return b""
            self._arrived.write(received)
            self._ready = self._decrypted()
        if not self._ready and not self._ended:
            raise BlockingIOError
        data, self._ready = self._ready, b""
        return data

    def send(self, data: bytes | memoryview) -> int:
        """The number of bytes sent; after BlockingIOError the same bytes must be sent again."""
        if not self._to_send:
            self._owed = self._tls.write(data[:_RECORD])
        if not self._flush():
            raise BlockingIOError
        sent, self._owed = self._owed, 0
        return sent

    def close(self) -> None:
        self._sock.close()

    def _flush(self) -> bool:
        """Send what is encrypted; False: the client does not take all of it now."""
        self._to_send += self._written.read()
        while self._to_send:
            try:
                sent = self._sock.send(self._to_send)
            except BlockingIOError:
                return False
            self._to_send = self._to_send[sent:]
        return True

    def _decrypted(self) -> bytes:
        """All data that can be decrypted now."""
        parts = []
        try:
            while part := self._tls.read(_RECORD):
                parts.append(part)
            self._ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended = True
        return b"".join(parts)
