"""The cuts of the failure campaign: both directions, one process, existing connections."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.cuts import Cuts

HOST, OTHER = "127.98.3.1", "127.98.3.2"
ECHO = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as connection:
    while data := connection.recv(100):
        connection.sendall(data)
"""


@contextmanager
def echo(cuts: Cuts, number: int, address: str) -> Iterator[socket.socket]:
    """A process with this number that has connected to the address, and sends back what it gets."""
    with socket.create_server((address, 0)) as listener:
        port = str(listener.getsockname()[1])
        command = [sys.executable, "-c", ECHO, address, port]
        with subprocess.Popen(command, group=cuts.group(number)) as process:
            listener.settimeout(20)
            connection, _ = listener.accept()
            with connection:
                yield connection
            process.wait(20)


def responds(connection: socket.socket, data: bytes, timeout: float = 10) -> bool:
    connection.settimeout(timeout)
    connection.sendall(data)
    return receives(connection, data, timeout)


def receives(connection: socket.socket, data: bytes, timeout: float = 10) -> bool:
    connection.settimeout(timeout)
    try:
        return connection.recv(100) == data
    except TimeoutError:
        return False


def test_a_cut_between_a_process_and_an_address() -> None:
    cuts = Cuts()
    assert cuts.is_possible
    with (
        echo(cuts, 1, HOST) as cut,
        echo(cuts, 2, HOST) as of_another_process,
        echo(cuts, 1, OTHER) as to_another_address,
    ):
        assert responds(cut, b"before")
        with cuts.between(1, HOST):
            assert not responds(cut, b"meanwhile", timeout=1)
            assert responds(of_another_process, b"meanwhile")
            assert responds(to_another_address, b"meanwhile")
        assert receives(cut, b"meanwhile"), "it arrives after the end of the cut"
