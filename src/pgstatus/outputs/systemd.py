"""Notifications for the service manager: ready, reloading, stopping, alive, and a status line.

The protocol is a datagram of ``NAME=value`` lines, see sd_notify(3). It is implemented here because
it is shorter than any library: PyPI's ``sdnotify`` has had no release since 2017, and systemd's own
bindings have to be compiled.
"""

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping

log = logging.getLogger(__name__)

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""The variables of the protocol. Child processes must not inherit them."""

# The monitor may call `alive` a thousand times per second.
_WATCHDOG_INTERVAL = 0.5
_MAX_UNSENT = 16


class Notifier:
    """Sends notifications to ``$NOTIFY_SOCKET``; without one it does nothing.

    It never blocks. What the socket does not accept is sent with a later call of `alive`. Safe to
    use from any thread.
    """

    def __init__(self, address: str | None = None, *, watchdog: bool = False) -> None:
        # A leading @ stands for the null byte of the abstract namespace.
        self._address = "\0" + address[1:] if address and address[0] == "@" else address
        self._watchdog = watchdog
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        if address:
            # Once, so that a shortage of descriptors does not stop the watchdog messages.
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self._unsent: deque[str] = deque(maxlen=_MAX_UNSENT)
        self._status = ""
        """The status line that the service manager has received."""
        self._last_watchdog = 0.0
        self._failed = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Notifier":
        """The notifier that the variables of the service manager describe."""
        # sd_watchdog_enabled(3): the variables may have been meant for another process.
        pid = environment.get("WATCHDOG_PID", "")
        is_ours = pid in {"", str(os.getpid())}
        watchdog = bool(environment.get("WATCHDOG_USEC")) and is_ours
        return cls(environment.get("NOTIFY_SOCKET"), watchdog=watchdog)

    def ready(self) -> None:
        """The start, or a reload, is complete."""
        self._notify("READY=1")

    def reloading(self) -> None:
        """A reload begins."""
        # systemd compares this time with its own CLOCK_MONOTONIC.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """The process begins to stop."""
        self._notify("STOPPING=1")

    def alive(self, status: str) -> None:
        """Reset the watchdog; ``status`` is the line that ``systemctl status`` shows."""
        with self._lock:
            self._send_unsent()
            now = time.monotonic()
            due = self._watchdog and now - self._last_watchdog >= _WATCHDOG_INTERVAL
            lines = ["WATCHDOG=1"] if due else []
            if status != self._status:
                lines.append(f"STATUS={status}")
            if lines and self._send("\n".join(lines)):
                self._status = status
                if due:
                    self._last_watchdog = now

    def close(self) -> None:
        """Send nothing any more."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _notify(self, message: str) -> None:
        with self._lock:
            self._unsent.append(message)
            self._send_unsent()

    def _send_unsent(self) -> None:
        while self._unsent and self._send(self._unsent[0]):
            self._unsent.popleft()

    def _send(self, message: str) -> bool:
        if self._socket is None or self._address is None:
            return True
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._failed:
                log.warning("notification of the service manager delayed: %s", error)
            self._failed = True
            return False
        self._failed = False
        return True
