"""What a stack has to provide: a module ``bench/stacks/NAME.py`` with ``open_stack``.

::

    def open_stack(place: Place) -> Stack: ...          # or: async def

``open_stack`` and the methods of the stack are all coroutine functions, or all plain functions;
the latter run in ``place.users`` threads at the same time. Each stack has a process of its own, so
it may change settings of the whole process. An exception of ``write`` or ``read`` is counted as an
error of that operation; a stack repeats nothing by itself.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import bench.stacks

TABLE = "CREATE TABLE note (value bigint PRIMARY KEY)"
WRITE = "INSERT INTO note (value) VALUES ({})"
"""With the driver's placeholder: ``WRITE.format("%s")``."""
READ = "SELECT (SELECT count(*) FROM note WHERE value = {}), host(inet_server_addr())"
"""Returns 1 or 0, and the address of the server."""


@dataclass(frozen=True)
class Place:
    """Where the cluster is, and how many users work at the same time.

    url: pg-status. lag_ms: reads may be this late.
    """

    url: str
    hosts: tuple[str, ...]
    port: int
    user: str
    password: str
    dbname: str
    users: int
    lag_ms: int


class Read(NamedTuple):
    """Whether the row was visible, and the address of the server that was read from."""

    found: bool
    host: str


class Stack(Protocol):
    """All methods may be coroutine functions instead."""

    def write(self, value: int) -> Any:
        """Insert the value into ``note`` and commit; the bookmark for `read`, of any type."""

    def read(self, value: int, bookmark: Any) -> Any:
        """Look for the value, from a replica if possible, not older than the bookmark: a `Read`."""

    def close(self) -> Any:
        """Close all connections."""


def names() -> list[str]:
    """The stacks of this package."""
    return [
        module.name
        for module in pkgutil.iter_modules(bench.stacks.__path__)
        if hasattr(importlib.import_module(f"bench.stacks.{module.name}"), "open_stack")
    ]
