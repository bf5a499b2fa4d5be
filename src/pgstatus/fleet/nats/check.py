"""What ``pg-status check`` shows of NATS: whether each server can be used."""

import asyncio

from pgstatus.fleet.nats.client import reason
from pgstatus.fleet.nats.connection import Connection
from pgstatus.settings.nats import Nats, NatsServer


async def servers(nats: Nats) -> list[tuple[str, str | None]]:
    """Of each server, why no connection can be made; None: it can."""
    return await asyncio.gather(*(_server(nats, server) for server in nats.servers))


async def _server(nats: Nats, server: NatsServer) -> tuple[str, str | None]:
    name = f"nats://{server}"
    try:
        client = await Connection(nats).connect(server)
    except Exception as error:  # various ones of nats-py, asyncio, ssl and nkeys
        return name, reason(error)
    await client.abandon()
    return name, None
