"""Ends statements that wait for a host which is gone.

A host that has disappeared from the network, or is frozen, closes no connection: a statement would
wait for it until the kernel gives up, after minutes or never, and occupy its thread. As soon as
pg-status reports another master, or that a replica is dead, the sockets are shut down, and the
statement fails as with any lost connection.
"""

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import psycopg

from pgstatus.client import Hosts
from pgstatus.django.host import Host

Connection = psycopg.Connection[Any]


class OpenConnections:
    """The connections of all threads."""

    def __init__(self) -> None:
        self._hosts: WeakKeyDictionary[Connection, Host] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def add(self, connection: Connection, host: Host) -> None:
        with self._lock:
            self._hosts[connection] = host

    def leave_master(self, left: Host) -> None:
        """There is another master: what was sent to this one is not waited for."""
        self._interrupt(
            lambda host: (
                host.is_master
                and host.address == left.address
                and host.generation <= left.generation
            )
        )

    def leave_dead_replicas(self, state: Hosts) -> None:
        """A replica that is only late finishes its queries."""
        alive = {(each.host, each.port) for each in state.hosts if each.alive}
        # Without a living host, pg-status may be the one that has no network.
        if state.ready and not state.stale and alive:
            self._interrupt(lambda host: not host.is_master and host.address not in alive)

    def _interrupt(self, is_gone: Callable[[Host], bool]) -> None:
        with self._lock:
            gone = [each for each, host in self._hosts.items() if is_gone(host)]
        for connection in gone:
            with suppress(OSError, psycopg.Error):
                _shut_down(connection)


def _shut_down(connection: Connection) -> None:
    peer = connection.info.hostaddr, connection.info.port
    # Its thread may close it at any time, and the number may then belong to another file: only a
    # socket that is connected to this host is shut down.
    with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        if duplicate.getpeername()[:2] == peer:
            duplicate.shutdown(socket.SHUT_RDWR)
