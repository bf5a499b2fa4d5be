"""A host as it was chosen for a connection."""

from typing import NamedTuple

from pgstatus.routing.following import Address


class Host(NamedTuple):
    """It differs from a later choice if its connections must not be used any more.

    is_master: it was chosen as the master.
    generation: how many times the connections to this address had been lost.
    """

    address: Address
    is_master: bool
    generation: int

    @property
    def name(self) -> str:
        """``name:port``."""
        host, port = self.address
        return f"{host}:{port}"
