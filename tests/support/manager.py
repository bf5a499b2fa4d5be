"""A service manager that receives the notifications of a daemon."""

import socket
from pathlib import Path


class Manager:
    """The receiving end of ``$NOTIFY_SOCKET``."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.address)
        self.socket.settimeout(10)

    def next(self) -> list[str]:
        """The lines of the next message."""
        return self.socket.recv(4096).decode().splitlines()

    def until(self, line: str) -> list[str]:
        """All lines until the first one that begins with ``line``, inclusive."""
        lines = []
        while True:
            for received in self.next():
                lines.append(received)
                if received.startswith(line):
                    return lines
