"""The encrypted connection of one client: the handshake, and the client's certificate."""

import logging
import socket
import ssl
from typing import Any

from pgstatus.http.connection import HEAD_SECONDS, REFUSED, Connection, State
from pgstatus.http.loop import READ
from pgstatus.http.shared import MAX_HANDSHAKES, Shared
from pgstatus.http.tls import TlsSocket

log = logging.getLogger(__name__)

# Seconds after which a handshake may be given up in favour of a new one.
_HANDSHAKE_SECONDS = 1.0


class TlsConnection(Connection):
    """The same, encrypted."""

    __slots__ = ("_context", "_plain")

    def __init__(
        self, shared: Shared, sock: socket.socket, client: Any, server: Any, context: ssl.SSLContext
    ) -> None:
        super().__init__(shared, sock, client, server)
        self._plain = sock
        self._context = context
        if context.verify_mode != ssl.CERT_NONE:
            self._cache = shared.cache_without_certificate

    def start(self) -> None:
        """Begin the handshake, or wait for a place: each handshake in progress takes memory."""
        self.state = State.HANDSHAKE
        self.deadline = self._shared.loop.now + HEAD_SECONDS
        self._begin_handshake()

    def _begin_handshake(self) -> None:
        if self.state is not State.HANDSHAKE:
            return
        shared, now = self._shared, self._shared.loop.now
        if len(shared.handshakes) >= MAX_HANDSHAKES:
            oldest, began = next(iter(shared.handshakes.items()))
            if now - began < _HANDSHAKE_SECONDS:
                shared.loop.call_at(now + _HANDSHAKE_SECONDS / 4, self._begin_handshake)
                return
            oldest.close()
        shared.handshakes[self] = now
        self.deadline = now + HEAD_SECONDS
        self._sock = TlsSocket(self._plain, self._context)
        self._shake_hands()

    def refuse(self) -> None:
        """Close it: a response would take a handshake."""
        self._shared.requests.of(REFUSED).count += 1
        self.close()

    def close(self) -> None:
        self._shared.handshakes.pop(self, None)
        super().close()

    def _shake_hands(self, sock: Any = None) -> None:
        try:
            wanted = self._sock.shake_hands()
        except OSError as error:
            log.debug("TLS handshake with %s failed: %s", self._client, error)
            self.close()
            return
        if wanted:
            self._enter(State.HANDSHAKE, wanted, self._shake_hands)
            return
        shared = self._shared
        shared.handshakes.pop(self, None)
        if self._sock.has_certificate:
            self._cache = shared.cache
        self.deadline = shared.loop.now + shared.keepalive
        self._enter(State.READING, READ, self._readable)
        # The first request may have been received with the end of the handshake.
        if self.state is State.READING:
            self._readable(self._sock)
