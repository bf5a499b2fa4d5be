"""Programs that listen at the address of a host and are not PostgreSQL.

They take the place of a real server where none can be made to fail on demand.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def listener(address: str, answer: bytes | None, port: int = 0) -> Iterator[int]:
    """Accept connections and send ``answer`` after the first bytes; None: never accept or send.

    Yields the port.
    """
    with socket.create_server((address, port)) as server:
        port = int(server.getsockname()[1])
        if answer is None:
            # The kernel establishes the connections.
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
