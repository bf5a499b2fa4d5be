"""Cuts between a process and an address, in a network namespace of its own.

All addresses are on the loopback interface, where the source address does not identify a process.
Its group ID does: the first packet of a connection marks it, and packets of marked connections are
dropped in both directions.
"""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_GROUP = 60000
_IN_NAMESPACE = "PGSTATUS_IN_NAMESPACE"
_MOST = 9  # processes
_MARKS = "".join(
    f"    ct mark 0 meta skgid {group} ct mark set {group}\n"
    for group in range(_GROUP + 1, _GROUP + 1 + _MOST)
)
_TABLE = f"""table inet chaos {{
  chain owner {{ type filter hook output priority -10;
{_MARKS}  }}
  chain cut {{ type filter hook output priority 0; }}
}}"""


def enter_namespace(command: list[str]) -> None:
    """Replace this process by ``command`` in a namespace of its own, if cuts are possible there."""
    programs = ("unshare", "ip", "nft")
    if _IN_NAMESPACE in os.environ or os.geteuid() != 0 or not all(map(shutil.which, programs)):
        return
    # A container may not be permitted to make one.
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        return
    os.environ[_IN_NAMESPACE] = "1"
    start = 'ip link set lo up && exec "$@"'
    os.execvp("unshare", ["unshare", "--net", "sh", "-c", start, "sh", *command])


class Cuts:
    """``is_possible`` is False outside of a namespace: nothing is cut then."""

    def __init__(self) -> None:
        self.is_possible = _IN_NAMESPACE in os.environ
        self._lock = threading.Lock()
        self._cut: list[tuple[int, str]] = []
        if self.is_possible:
            _nft(_TABLE)

    def group(self, number: int) -> int | None:
        """The group ID for a process that may be cut off; numbers begin with 1."""
        return _GROUP + number if self.is_possible else None

    @contextmanager
    def between(self, number: int, *addresses: str) -> Iterator[None]:
        """Packets of connections from the process with this number to the addresses are dropped."""
        cuts = [(_GROUP + number, address) for address in addresses]
        self._change(add=cuts)
        try:
            yield
        finally:
            self._change(remove=cuts)

    def _change(
        self, add: list[tuple[int, str]] | None = None, remove: list[tuple[int, str]] | None = None
    ) -> None:
        with self._lock:
            self._cut += add or []
            for cut in remove or []:
                self._cut.remove(cut)
            rules = "".join(
                f"add rule inet chaos cut ct mark {group} ip {side} {address} drop\n"
                for group, address in self._cut
                for side in ("saddr", "daddr")
            )
            _nft(f"flush chain inet chaos cut\n{rules}")


def _nft(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
