"""The sources of evidence of a configuration, and what each of them delivers first."""

import asyncio
from collections.abc import Mapping, Sequence
from math import inf

from pgstatus.fleet.document import Document
from pgstatus.fleet.source import Source
from pgstatus.settings.fleet import Fleet


def sources(fleet: Fleet, cluster: str) -> list[Source]:
    """Of the evidence that a relay follows."""
    # Each only where it is configured: they take memory.
    found: list[Source] = []
    if fleet.upstreams:
        from pgstatus.fleet.upstream import Upstream  # noqa: PLC0415

        found += [Upstream(address) for address in fleet.upstreams]
    if fleet.nats is not None:
        from pgstatus.fleet.nats.source import NatsSource  # noqa: PLC0415  # an extra

        found.append(NatsSource(fleet.nats, cluster))
    return found


class _First:
    """The receiver of first documents, or of the reasons why there is none."""

    def __init__(self) -> None:
        self.found: dict[str, Document | str] = {}
        self.changed = asyncio.Event()

    def received(self, source: str, document: Document, at: float, *, after: float = -inf) -> None:
        self.found[source] = document
        self.changed.set()

    def lost(self, source: str, reason: str) -> None:
        self.found.setdefault(source, reason)
        self.changed.set()


async def first_documents(
    found: Sequence[Source], seconds: float = 3.5
) -> Mapping[str, Document | str]:
    """The first document of each watcher, or why there is none.

    It takes ``seconds`` unless every source is a single watcher and has responded.
    """
    first = _First()
    tasks = [asyncio.create_task(source.run(first)) for source in found]
    try:
        async with asyncio.timeout(seconds):
            while not first.found.keys() >= {source.name for source in found}:
                await first.changed.wait()
                first.changed.clear()
    except TimeoutError:
        pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    silent = {
        source.name: f"no document within {seconds:g} s"
        for source in found
        if not any(name.startswith(f"{source.name}:") for name in first.found)
    }
    return {**silent, **first.found}
