"""Loopback addresses that no other demo or test run on this machine uses at the same time.

Every host of a cluster has a separate address and all have the same port, as on real machines.
Linux accepts all addresses of 127.0.0.0/8 without configuration.
"""

import fcntl
import os
import socket
import tempfile
from pathlib import Path

from pgstatus.errors import StartError

_NETWORKS = 250


class Network:
    """One network 127.99.N.0/24; a locked file reserves it until `release`."""

    def __init__(self) -> None:
        for number in range(1, _NETWORKS):
            path = Path(tempfile.gettempdir()) / f"pg-status-127.99.{number}.lock"
            try:
                self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError:  # it belongs to another account
                continue
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._lock)
                continue
            if not _is_still(path, self._lock):  # it was released and removed meanwhile
                os.close(self._lock)
                continue
            self._number = number
            self._path = path
            return
        raise StartError("all loopback networks 127.99.1.0 to 127.99.249.0 are in use")

    def address(self, last: int) -> str:
        """``127.99.N.last``."""
        return f"127.99.{self._number}.{last}"

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._lock)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def free_port(addresses: list[str], first: int) -> int:
    """The first port, starting with ``first``, that is free on all addresses."""
    for port in range(first, 65536):
        if all(_is_free(address, port) for address in addresses):
            return port
    raise StartError(f"no free port above {first} on {', '.join(addresses)}")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
