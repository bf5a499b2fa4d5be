"""Name look-ups that cannot hold up anything but the host that they are for.

``getaddrinfo`` has no deadline and cannot be cancelled. Each host has at most one look-up under
way, in a daemon thread of its own: a name server that needs ten seconds neither fills a shared
pool (asyncio's has six places on two cores) nor delays the end of the process.
"""

import asyncio
import ipaddress
import socket
import threading


class Resolver:
    """Looks up one name again and again, on one event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pending: asyncio.Future[tuple[str, ...]] | None = None

    async def addresses(self) -> tuple[str, ...]:
        """The addresses of the name, in the order to try them; OSError where there are none.

        May be cancelled: the next call then joins the look-up that is still under way.
        """
        if self._name.startswith("/") or _is_literal(self._name):
            return (self._name,)
        if self._pending is None:
            self._pending = asyncio.get_running_loop().create_future()
            # A failure that nobody waited for (all were cancelled) is no news.
            self._pending.add_done_callback(lambda done: done.cancelled() or done.exception())
            threading.Thread(
                target=self._look_up,
                args=(asyncio.get_running_loop(), self._pending),
                name=f"resolve {self._name}",
                daemon=True,
            ).start()
        pending = self._pending
        try:
            return await asyncio.shield(pending)
        finally:
            if pending.done():
                self._pending = None

    def _look_up(
        self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[tuple[str, ...]]
    ) -> None:
        addresses: tuple[str, ...] = ()
        failure: OSError | UnicodeError | None = None
        try:
            found = socket.getaddrinfo(self._name, None, type=socket.SOCK_STREAM)
            addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
        except (OSError, UnicodeError) as error:  # UnicodeError: a label of over 63 characters
            failure = error

        def deliver() -> None:
            if failure is None:
                answer.set_result(addresses)
            else:
                answer.set_exception(OSError(str(failure)))

        try:
            loop.call_soon_threadsafe(deliver)
        except RuntimeError:
            # The loop was closed meanwhile: nobody is left to tell.
            return


def _is_literal(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
