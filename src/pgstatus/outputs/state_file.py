"""``pg_status__state_file``: what must outlive a restart, in a file.

It is written by a thread of its own whenever it has changed, which is after a promotion: a disk
that hangs holds up nobody.
"""

import json
import logging
import os
import threading
from math import inf
from pathlib import Path
from tempfile import NamedTemporaryFile

from pgstatus import clock
from pgstatus.core.state import Memory

log = logging.getLogger(__name__)

_RETRY_AFTER = 60.0


class StateFile:
    """Reads and writes one `Memory`; without a path it does neither."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._offered: Memory | None = None
        """The newest; it is in the file, or a thread is at it."""
        self._not_before = -inf
        """When to try again what failed."""
        self._lock = threading.Lock()
        """Held by whoever writes."""

    def use(self, path: Path | None) -> None:
        """This file from now on."""
        if path != self._path:
            self._path, self._offered, self._not_before = path, None, -inf

    def read(self) -> Memory | None:
        """What the file says; None where there is none, or none that can be understood."""
        if self._path is None:
            return None
        try:
            return _parse(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.error("%s cannot be used and will be replaced: %s", self._path, error)
            return None

    def offer(self, memory: Memory | None) -> None:
        """The newest; returns at once. To be called again and again, by one thread."""
        path = self._path
        if path is None or memory is None or memory == self._offered:
            return
        if clock.now() < self._not_before:
            return
        self._offered = memory
        threading.Thread(
            target=self._write, args=(path, memory), name="state-file", daemon=True
        ).start()

    def _write(self, path: Path, memory: Memory) -> None:
        with self._lock:
            if memory is not self._offered:  # there is a newer one already
                return
            try:
                _replace(path, _render(memory))
            except OSError as error:
                log.error(
                    "%s cannot be written, and a restart may forget which master was replaced: %s",
                    path,
                    error.strerror,
                )
                self._not_before = clock.now() + _RETRY_AFTER
                self._offered = None


def _parse(text: bytes) -> Memory:
    known = json.loads(text)
    identifier, timeline = known["system_identifier"], known["newest_timeline"]
    witnesses, master = known["witnesses"], known.get("master")
    if (
        not (identifier is None or isinstance(identifier, int))
        or not isinstance(timeline, int)
        or not isinstance(witnesses, list)
        or not (master is None or isinstance(master, str))
    ):
        raise ValueError("not written by pg-status")
    writers = known.get("writers", [])
    if not isinstance(writers, list):
        raise ValueError("not written by pg-status")
    return Memory(
        identifier, timeline, frozenset(map(str, witnesses)), master, frozenset(map(str, writers))
    )


def _render(memory: Memory) -> bytes:
    return json.dumps(
        {
            "system_identifier": memory.system_identifier,
            "newest_timeline": memory.newest_timeline,
            "witnesses": sorted(memory.evidence),
            "master": memory.master,
            "writers": sorted(memory.writers),
        }
    ).encode()


def _replace(path: Path, content: bytes) -> None:
    """Put ``content`` into the file; whoever reads sees all of it, or all of what was there."""
    path = path.resolve()
    # Of a name of its own: another instance may be told the same file.
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", delete=False) as file:
        new = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            new.replace(path)
        except BaseException:
            new.unlink()
            raise
