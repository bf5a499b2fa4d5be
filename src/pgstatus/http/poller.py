"""epoll, behind the few methods that gunicorn's thread worker uses of a selector.

`selectors` makes a named tuple and a list of them for every event; without it an answer from
memory costs 1.5 µs less of about 10.
"""

import select
from collections.abc import Callable
from typing import Any, Protocol

READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


class Poller:
    """Calls back ``callback(fileobj)`` for every registered file that is ready."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, tuple[Callable[[Any], object], Any]] = {}

    def register(
        self, fileobj: _HasFileno | int, events: int, callback: Callable[[Any], object]
    ) -> None:
        """Watch a file that is not watched yet."""
        self._epoll.register(fileobj, events)
        self._callbacks[_fileno(fileobj)] = (callback, fileobj)

    def modify(
        self, fileobj: _HasFileno | int, events: int, callback: Callable[[Any], object]
    ) -> None:
        """Watch a file for something else, or call back something else."""
        self._epoll.modify(fileobj, events)
        self._callbacks[_fileno(fileobj)] = (callback, fileobj)

    def unregister(self, fileobj: _HasFileno | int) -> None:
        """Watch it no longer; to be called before it is closed."""
        self._epoll.unregister(fileobj)
        del self._callbacks[_fileno(fileobj)]

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        """Wait for something to be ready; what is, for `dispatch`."""
        return self._epoll.poll(timeout)

    def dispatch(self, ready: list[tuple[int, int]]) -> None:
        """Call everybody back."""
        callbacks = self._callbacks
        for fd, _ in ready:
            found = callbacks.get(fd)
            # One of those before may have ended it.
            if found is not None:
                found[0](found[1])

    def close(self) -> None:
        """Give the epoll file back."""
        self._epoll.close()


def _fileno(fileobj: _HasFileno | int) -> int:
    return fileobj if isinstance(fileobj, int) else fileobj.fileno()
