"""Name resolution that can delay only the host that it is for.

``getaddrinfo`` has no deadline and cannot be cancelled, so a host has at most one lookup in
progress, in a thread of its own.
"""

import asyncio
import contextlib
import ipaddress
import socket

from pgstatus.monitor.threads import in_thread

# An address is given up when it is missing from so many successful lookups in a row: some name
# servers return a different part of their addresses each time.
_MISSING_LOOKUPS = 2
_LOOKUP_EVERY = 4.0


class Resolver:
    """Resolves one name repeatedly, on one event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lookup: asyncio.Future[tuple[str, ...]] | None = None
        self.is_literal = name.startswith("/") or _is_address(name)
        """The name is an address, or the directory of a Unix socket."""

    async def addresses(self) -> tuple[str, ...]:
        """The addresses of the name, in the order to try them; OSError if there are none.

        May be cancelled: the next call joins the lookup if it is still in progress.
        """
        return (self._name,) if self.is_literal else await asyncio.shield(self.lookup())

    def lookup(self) -> "asyncio.Future[tuple[str, ...]]":
        """The lookup in progress, or a new one. A finished one is not used again."""
        if self._lookup is None or self._lookup.done():
            self._lookup = in_thread(self._resolve, f"resolve {self._name}")
        return self._lookup

    def _resolve(self) -> tuple[str, ...]:
        try:
            found = socket.getaddrinfo(self._name, None, type=socket.SOCK_STREAM)
        except UnicodeError as error:  # a label of more than 63 characters
            raise OSError(str(error)) from None
        return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


class PeerWatch:
    """Whether the peer of a kept connection is still an address of the host's name."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._next = 0.0
        self._missing = 0
        self.known: tuple[str, ...] = ()
        """The addresses of the last successful lookup."""

    def connected(self, addresses: tuple[str, ...], now: float) -> None:
        """A connection was made; the name has these addresses."""
        self.known, self._missing, self._next = addresses, 0, now + _LOOKUP_EVERY

    def has_moved(self, peer: str, now: float) -> bool:
        """The name no longer has the address; starts a lookup if one is due."""
        if not self._resolver.is_literal and now >= self._next:
            self._next = now + _LOOKUP_EVERY
            with contextlib.suppress(OSError):
                lookup = self._resolver.lookup()
                lookup.add_done_callback(lambda done: self._resolved(peer, done))
        return self._missing >= _MISSING_LOOKUPS

    def _resolved(self, peer: str, lookup: "asyncio.Future[tuple[str, ...]]") -> None:
        if lookup.cancelled() or lookup.exception() is not None:
            return  # a failed lookup changes nothing
        self.known = lookup.result()
        self._missing = 0 if peer in self.known else self._missing + 1


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
