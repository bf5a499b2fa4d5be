"""Loopback addresses that no other demo or test run on this machine uses at the same time.

Every host of a cluster has a separate address and all have the same port, as on real machines.
Linux accepts all addresses of 127.0.0.0/8 without configuration.
"""

import socket

from pgstatus.errors import StartError

_NETWORKS = 250


class Network:
    """One network 127.99.N.0/24, reserved until `release` or the end of the process.

    The reservation is an abstract unix socket, because its names have the same scope as loopback
    addresses: one network namespace, independent of TMPDIR and of the account.
    """

    def __init__(self) -> None:
        self._lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        for number in range(1, _NETWORKS):
            try:
                self._lock.bind(f"\0pg-status-127.99.{number}")
            except OSError:  # in use
                continue
            self._number = number
            return
        self._lock.close()
        raise StartError("all loopback networks 127.99.1.0 to 127.99.249.0 are in use")

    def address(self, last: int) -> str:
        """``127.99.N.last``."""
        return f"127.99.{self._number}.{last}"

    def release(self) -> None:
        self._lock.close()


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
