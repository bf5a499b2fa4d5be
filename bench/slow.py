"""Slow clients: each has sent a part of a request, and sends another byte every two seconds."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

_EVERY = 2.0


@contextlib.contextmanager
def slow_clients(url: str, number: int) -> Iterator[None]:
    """Keep ``number`` slow clients connected within the block."""
    parts = urlsplit(url)
    stopping = threading.Event()
    with contextlib.ExitStack() as undo:
        address = (parts.hostname or "", parts.port or 80)
        clients = [undo.enter_context(socket.create_connection(address)) for _ in range(number)]
        for client in clients:
            client.sendall(b"GET /master HTTP/1.1\r\nHost: x\r\nX: ")

        def dribble() -> None:
            while not stopping.wait(_EVERY):
                for client in clients:
                    with contextlib.suppress(OSError):  # closed by the server
                        client.send(b"x")

        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()
