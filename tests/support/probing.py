"""Short ways to use a probe without the daemon around it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from pgstatus.core.snapshot import Failure, Observation
from pgstatus.demo.cluster import PASSWORD, Server
from pgstatus.monitor.probe import Probe
from pgstatus.monitor.prober import outcome
from pgstatus.settings.target import Target

Result = Observation | Failure


def target(host: str, port: int, **changes: Any) -> Target:
    """A target; changes are fields of it, or connection parameters."""
    limits = {"connect_timeout": 2.0, "query_timeout": 5.0, "max_age": 300.0, "password_file": None}
    params = {"host": host, "port": str(port), "dbname": "postgres"}
    params |= {"user": "postgres", "password": PASSWORD}
    params |= {name: value for name, value in changes.items() if name not in limits}
    limits |= {name: value for name, value in changes.items() if name in limits}
    return Target(params, **limits)  # type: ignore[arg-type]


@asynccontextmanager
async def probing(server: Server | Target, **changes: Any) -> AsyncIterator[Probe]:
    """A probe of a server or target, closed in the end."""
    if isinstance(server, Server):
        server = target(server.address, server.port, **changes)
    probe = Probe(server, lambda: None)
    try:
        yield probe
    finally:
        probe.close()


async def check_until(
    probe: Probe, what: str, predicate: Callable[[Result], bool], seconds: float = 15.0
) -> list[Result]:
    """Check every 50 ms until a result fulfils the predicate; all results."""
    results: list[Result] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        results.append(await outcome(probe))
        if predicate(results[-1]):
            return results
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {what} (last: {results[-1]})")


async def longest_gap(probe: Probe) -> float:
    """The longest time between the ends of two checks, which begin every 20 ms, in half a second.

    Of three measurements the best one: a host that delays the checks does so in each, while the
    load of the machine comes and goes.
    """
    return min([await _longest_gap(probe) for _ in range(3)])


async def _longest_gap(probe: Probe) -> float:
    last, longest = time.monotonic(), 0.0
    end = last + 0.5
    while last < end:
        await asyncio.sleep(0.02)
        await probe.check()
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    return longest
