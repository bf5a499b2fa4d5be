"""What ``pg-status check`` shows of NATS: whether each server can be used, and the evidence."""

import asyncio
from math import inf

from pgstatus.fleet.document import Document
from pgstatus.fleet.nats.client import reason
from pgstatus.fleet.nats.connection import Connection
from pgstatus.fleet.nats.source import NatsSource
from pgstatus.settings.nats import Nats, NatsServer

_FIRST = 3.0
"""Seconds to wait for evidence: each watcher publishes once a second."""
_OTHERS = 1.0

Found = tuple[str, Document | str | None]
"""A name; a document, an error, or None: connected."""


async def servers(nats: Nats) -> list[Found]:
    """Of each server, whether a connection can be made."""
    return await asyncio.gather(*(_server(nats, server) for server in nats.servers))


async def evidence(nats: Nats, cluster: str) -> list[Found]:
    """The latest document of each watcher."""
    found: dict[str, Document] = {}
    first = asyncio.Event()

    class Collector:
        def received(
            self, source: str, document: Document, at: float, *, after: float = -inf
        ) -> None:
            if after > -inf:  # its process runs
                found[source] = document
                first.set()

        def lost(self, source: str, reason: str) -> None:
            pass

    task = asyncio.create_task(NatsSource(nats, cluster).run(Collector()))
    try:
        async with asyncio.timeout(_FIRST):
            await first.wait()
        await asyncio.sleep(_OTHERS)
    except TimeoutError:
        return [("nats", f"no evidence of the cluster {cluster!r} within {_FIRST:g} s")]
    finally:
        task.cancel()
        await asyncio.wait([task])
    return sorted(found.items())


async def _server(nats: Nats, server: NatsServer) -> Found:
    name = f"nats://{server}"
    try:
        client = await Connection(nats).connect(server)
    except Exception as error:  # various ones of nats-py, asyncio, ssl and nkeys
        return name, reason(error)
    await client.abandon()
    return name, None
