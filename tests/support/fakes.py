"""Probes with named behaviours, for what a real server cannot be made to do at a given moment."""

import asyncio
from collections.abc import Callable

from pgstatus import clock
from pgstatus.core.snapshot import Observation, Position
from pgstatus.errors import Cause, CheckError
from tests.support.world import master, replica


class FakeProbe:
    """Behaves as ``behaviour`` says: ``master``, ``replica``, ``refusing``, ``frozen``, ``defect``.

    A check takes ``takes`` seconds. While it is ``held`` it is connecting, which comes before.
    """

    def __init__(self, behaviour: str = "replica", takes: float = 0.0) -> None:
        self.behaviour = behaviour
        self.takes = takes
        self.held = False
        self.waits = False
        """It is frozen in the middle of a check."""
        self.lsn = 1000
        self.timeline = 1
        self.checks = 0
        self.at_once = 0
        self.most_at_once = 0
        self.closed = False
        self.on_lost: Callable[[], None] = lambda: None
        self.loop: asyncio.AbstractEventLoop
        """The monitor's event loop, from the first check on."""
        self._released = asyncio.Event()

    def lose_connection(self) -> None:
        """The kept connection breaks."""
        self.loop.call_soon_threadsafe(self.on_lost)

    def let_go(self) -> None:
        """End the check in which it is frozen; it responds as it behaves now."""
        self.loop.call_soon_threadsafe(self._released.set)

    async def check(self) -> Observation:
        self.loop = asyncio.get_running_loop()
        self.checks += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            while self.held:  # noqa: ASYNC110  # another thread changes it
                await asyncio.sleep(0.005)
            started = clock.now()
            await asyncio.sleep(self.takes)
            return await self._answer(started)
        finally:
            self.at_once -= 1

    async def _answer(self, started: float) -> Observation:
        times = {"started": started, "finished": clock.now()}
        match self.behaviour:
            case "master":
                return master(started, self.lsn, self.timeline, **times)
            case "replica":
                return replica(started, self.lsn, self.timeline, **times)
            case "refusing":
                raise CheckError(Cause.CONNECT, "Connection refused")
            case "frozen":
                self.waits = True
                await self._released.wait()
                self._released.clear()
                self.waits = False
                return await self._answer(started)
        raise ZeroDivisionError("a defect")

    async def position(self) -> Position:
        seen = await self.check()
        return Position(seen.in_recovery, seen.lsn, seen.started, seen.finished)

    def close(self) -> None:
        self.closed = True
