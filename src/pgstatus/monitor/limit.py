"""How much a host may send: bounds the memory and the CPU time that its data can cost.

libpq reads what arrives into a buffer of its own, which grows to the size that a message announces,
and reads on while more arrives once it holds 32 KiB. So the bytes are counted before each read.
"""

import array
import fcntl
import termios

# The largest valid response, with 100 standbys, is below 20 KiB. Above 32 KiB libpq's own loop
# would no longer return (`pqReadData`).
MAX_BYTES = 32 * 1024
# A read costs more than its bytes: a host that sends single bytes is limited as well.
_COST_OF_READ = 256


class TooMuchDataError(Exception):
    """The host sent more than any valid response contains."""

    def __init__(self) -> None:
        super().__init__(f"sent more than {MAX_BYTES // 1024} KiB")


class ReadLimit:
    """What may still be read until the next `reset`."""

    def __init__(self) -> None:
        self._left = MAX_BYTES

    def reset(self) -> None:
        self._left = MAX_BYTES

    def take(self, descriptor: int) -> None:
        """Account for what is waiting to be read; TooMuchDataError: do not read it."""
        waiting = array.array("i", [0])
        fcntl.ioctl(descriptor, termios.FIONREAD, waiting)
        self._left -= max(waiting[0], _COST_OF_READ)
        if self._left < 0:
            raise TooMuchDataError
