"""Things that listen where a PostgreSQL host should be, and are none.

These stand in where a real server cannot be made to misbehave on demand.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def listener(address: str, answer: bytes | None, port: int = 0) -> Iterator[int]:
    """Accept connections; send ``answer`` to whatever comes, or for None nothing at all, ever.

    Yields the port.
    """
    with socket.create_server((address, port)) as server:
        port = int(server.getsockname()[1])
        if answer is None:
            # The kernel makes the connections, and nobody ever takes them.
            yield port
            return
        server.settimeout(0.1)
        stopping = threading.Event()

        def accept() -> None:
            while not stopping.is_set():
                try:
                    client, _ = server.accept()
                except TimeoutError:
                    continue
                with client, contextlib.suppress(OSError):
                    client.recv(100)
                    client.sendall(answer)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield port
        finally:
            stopping.set()
            thread.join()
