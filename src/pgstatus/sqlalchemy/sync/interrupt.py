"""Releases threads that wait for a server that will not respond.

A stopped server process, or a machine without network, keeps a thread waiting for as long as its
kernel, or the timeouts of TCP, allow: drivers for threads have no timeout for queries. Shutting the
socket down ends the wait with the error of a lost connection.
"""

import os
import socket
import threading
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine, event


class Interrupter:
    """The open connections of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._lock = threading.Lock()
        self._peers: dict[Any, object] = {}
        event.listen(engine.pool, "connect", self._opened)
        event.listen(engine.pool, "close", self._closed)
        event.listen(engine.pool, "detach", self._closed)

    def interrupt(self) -> None:
        """End the waits of all threads that use a connection."""
        with self._lock:
            peers = tuple(self._peers.items())
        for connection, peer in peers:
            # The driver may have closed it, and its number may belong to another file by now.
            with suppress(Exception), _socket_of(connection) as duplicate:
                if duplicate.getpeername() == peer:
                    duplicate.shutdown(socket.SHUT_RDWR)

    def _opened(self, connection: Any, _: object) -> None:
        with suppress(Exception), _socket_of(connection) as duplicate:
            peer = duplicate.getpeername()
            with self._lock:
                self._peers[connection] = peer

    def _closed(self, connection: Any, _: object) -> None:
        with self._lock:
            self._peers.pop(connection, None)


def _socket_of(connection: Any) -> socket.socket:
    return socket.socket(fileno=os.dup(connection.fileno()))
