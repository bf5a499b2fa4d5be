"""Position checks: how often the replicas are queried while requests wait for a position.

A replica on a healthy network replays a commit within a millisecond or two, so the first pauses
are short. They grow, because a replica that is late does not catch up by being queried more often.
"""

import asyncio
from collections.abc import Awaitable, Callable

from pgstatus.monitor.threads import wake

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02


class PositionChecks:
    """One loop of checks for each replica; all of them run on the monitor's event loop.

    ``check`` checks one host and returns whether to continue with it; ``is_wanted`` returns
    whether a request waits.
    """

    def __init__(
        self, check: Callable[[int], Awaitable[bool]], is_wanted: Callable[[], bool]
    ) -> None:
        self._check = check
        self._is_wanted = is_wanted
        self._pauses: dict[int, float] = {}
        """The hosts with a running loop, and the next pause of each."""
        self._sleeping: dict[int, asyncio.Future[None]] = {}

    def begin(self, index: int) -> bool:
        """A request begins to wait: check host ``index`` now. True: `repeat` is to be started."""
        if index not in self._pauses:
            self._pauses[index] = _FIRST_PAUSE
            return True
        self._pauses[index] = _FIRST_PAUSE
        sleeping = self._sleeping.get(index)
        if sleeping is not None:
            wake(sleeping)
        return False

    async def repeat(self, index: int) -> None:
        """Check the host until no request waits or a check says otherwise."""
        try:
            while self._is_wanted() and await self._check(index):
                pause = self._pauses[index]
                self._pauses[index] = min(2 * pause, _LONGEST_PAUSE)
                await self._sleep(index, pause)
        finally:
            del self._pauses[index]

    async def _sleep(self, index: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        sleeping = self._sleeping[index] = loop.create_future()
        timer = loop.call_later(seconds, wake, sleeping)
        try:
            await sleeping
        finally:
            timer.cancel()
            del self._sleeping[index]
