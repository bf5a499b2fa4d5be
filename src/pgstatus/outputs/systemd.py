"""What the service manager is told: ready, reloading, alive, and one line for ``systemctl status``.

The protocol is a datagram of ``NAME=value`` lines: sd_notify(3). Spoken here and not by a library,
because it is shorter than the reasons against each: gunicorn's own function says READY when the
arbiter has started, long before anything is known; PyPI's ``sdnotify`` has had no release since
2017; systemd's own bindings have to be compiled.
"""

import logging
import os
import socket
import time

log = logging.getLogger(__name__)

# A busy monitor gives a thousand signs of life a second.
_NOT_MORE_OFTEN_THAN = 0.5


class Notifier:
    """Speaks to ``$NOTIFY_SOCKET``; silent where there is none."""

    def __init__(self, address: str | None = None, *, watchdog: bool = False) -> None:
        # A leading @ stands for the zero byte of the abstract namespace.
        self._address = "\0" + address[1:] if address and address[0] == "@" else address
        self._watchdog = watchdog
        self._status = ""
        self._fed = 0.0

    @classmethod
    def from_environment(cls) -> "Notifier":
        """Take the variables out of the environment: neither gunicorn nor a hook is to use them."""
        address = os.environ.pop("NOTIFY_SOCKET", None)
        # WATCHDOG_PID is the arbiter's; its worker, where the monitor lives, does the feeding.
        os.environ.pop("WATCHDOG_PID", None)
        return cls(address, watchdog=os.environ.pop("WATCHDOG_USEC", None) is not None)

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self) -> None:
        # systemd compares it with CLOCK_MONOTONIC of its own.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def alive(self, status: str) -> None:
        """Feed the watchdog; ``status`` is the line that ``systemctl status`` shows."""
        lines = []
        now = time.monotonic()
        if self._watchdog and now - self._fed >= _NOT_MORE_OFTEN_THAN:
            lines.append("WATCHDOG=1")
            self._fed = now
        if status != self._status:
            lines.append(f"STATUS={status}")
            self._status = status
        if lines:
            self._send(*lines)

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service_manager:
                # A full queue must not hold up the monitor; the next beat is a second away.
                service_manager.setblocking(False)
                service_manager.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("the service manager was not told %s: %s", lines[0], error)
