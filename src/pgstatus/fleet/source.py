"""Where a relay receives evidence from: the interface of all sources."""

from math import inf
from typing import Protocol

from pgstatus.fleet.document import Document


class Receiver(Protocol):
    """Called on the event loop of the relay; never blocks, never raises."""

    def received(self, source: str, document: Document, at: float, *, after: float = -inf) -> None:
        """A document has arrived at the moment ``at`` of this process's clock.

        ``after``: it was made after this moment, for example because it is the first one of a
        request that was sent then; infinite: not known. Evidence counts with the greatest age that
        is possible, so a source that knows this moment should pass it.
        """

    def lost(self, source: str, reason: str) -> None:
        """No document will arrive until the source has connected again; readable text, which is
        logged unless it is empty.
        """


class Source(Protocol):
    """Delivers the documents of one or more watchers."""

    @property
    def name(self) -> str:
        """As in ``http://w1:8000``. A source of several watchers reports each of them by a name
        of its own.
        """

    async def run(self, receiver: Receiver) -> None:
        """Deliver until cancelled; connect again by itself, with back-off and jitter."""

    def request_positions(self, seconds: float) -> None:
        """A request waits for a position for at most so long: the watchers are to check positions.

        Called on the event loop of the relay, often; never blocks.
        """
