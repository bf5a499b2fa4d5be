"""``pg_status__state_file``: what must survive a restart, in a file.

A background thread writes the file when its content has changed, which is after a promotion; a
blocked disk therefore delays nothing else. The file is replaced atomically and has mode 0600.
"""

import json
import logging
import os
import stat
import threading
import time
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from math import inf
from pathlib import Path
from tempfile import NamedTemporaryFile

from pgstatus import clock
from pgstatus.core.state import Memory

log = logging.getLogger(__name__)

# Seconds.
_RETRY_AFTER = 60.0
_READ_TIMEOUT = 2.0
_TEMPORARY_FILE_MAX_AGE = 60.0

_MAX_SIZE = 1 << 20
_MAX_TIMELINE = (1 << 32) - 1
_MAX_IDENTIFIER = (1 << 64) - 1


class StateFile:
    """Reads and writes one `Memory`. Without a path it does neither."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._newest: Memory | None = None
        self._written: Memory | None = None
        self._is_writing = False
        self._not_before = -inf
        """Time of the next attempt after a failure."""
        self._logged: str | None = None
        """The failure that was logged last; the same one is not logged again."""

    def use(self, path: Path | None) -> None:
        """Use this file from now on."""
        with self._lock:
            if path != self._path:
                self._path, self._newest, self._written = path, None, None
                self._not_before, self._logged = -inf, None

    def read(self) -> Memory | None:
        """The content; None if there is no file, or none that can be read and understood."""
        path = self._path
        if path is None:
            return None
        found: list[Memory | None] = []
        # In a thread, because nothing can interrupt the access to a network file system.
        thread = threading.Thread(
            target=lambda: found.append(_read(path)), name="state-file", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            return _read(path)
        thread.join(_READ_TIMEOUT)
        if not found:
            log.error("state file %s ignored: not read within %g s", path, _READ_TIMEOUT)
            return None
        return found[0]

    def offer(self, memory: Memory | None) -> None:
        """Pass the newest memory; returns immediately. The same one may be offered again."""
        if memory is None or self._path is None:
            return
        with self._lock:
            self._newest = memory
            is_due = memory != self._written and clock.now() >= self._not_before
            if self._is_writing or not is_due:
                return
            self._is_writing = True
        try:
            # In the context of the caller, whose cluster the log messages name.
            run = partial(copy_context().run, self._write)
            threading.Thread(target=run, name="state-file", daemon=True).start()
        except RuntimeError as error:
            self._failed(error)

    def _write(self) -> None:
        while True:
            with self._lock:
                path, memory = self._path, self._newest
                if path is None or memory is None or memory == self._written:
                    self._is_writing = False
                    return
            try:
                _replace(path, _render(memory))
            # RuntimeError: a loop of symbolic links; ValueError: a null byte in the path.
            except (OSError, RuntimeError, ValueError) as error:
                self._failed(error)
                return
            with self._lock:
                self._logged = None
                if path == self._path:
                    self._written = memory

    def _failed(self, error: Exception) -> None:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        with self._lock:
            self._is_writing = False
            self._not_before = clock.now() + _RETRY_AFTER
            is_new, self._logged = reason != self._logged, reason
            path = self._path
        if is_new:
            log.error(
                "state file %s cannot be written (%s); until it can, a master that was replaced "
                "may be reported as master after a restart of pg-status",
                path,
                reason,
            )


def _read(path: Path) -> Memory | None:
    try:
        return _parse(_content(path))
    except FileNotFoundError:
        return None
    except Exception as error:
        log.error("state file %s ignored, it will be replaced: %s", path, error)
        return None


def _content(path: Path) -> bytes:
    # O_NONBLOCK: opening a FIFO would wait for its other end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        content = file.read(_MAX_SIZE + 1)
    if len(content) > _MAX_SIZE:
        raise ValueError(f"larger than {_MAX_SIZE} bytes")
    return content


def _parse(text: bytes) -> Memory:
    known = json.loads(text)
    try:
        identifier, timeline, master = (
            known["system_identifier"], known["newest_timeline"], known.get("master"),
        )  # fmt: skip
        # Until version 1.0 the key was "witnesses".
        hosts = known["evidence"] if "evidence" in known else known["witnesses"]
        writers = known.get("writers", [])
    except (KeyError, TypeError, AttributeError):
        hosts = writers = identifier = timeline = master = None
    if (
        not (identifier is None or _is_integer(identifier, 0, _MAX_IDENTIFIER))
        or not _is_integer(timeline, 1, _MAX_TIMELINE)
        or not (_is_list_of_names(hosts) and _is_list_of_names(writers))
        or not (master is None or isinstance(master, str))
    ):
        raise ValueError("not written by pg-status")
    return Memory(identifier, timeline, frozenset(hosts), master, frozenset(writers))


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(host, str) for host in value)


def _is_integer(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _render(memory: Memory) -> bytes:
    return json.dumps(
        {
            "system_identifier": memory.system_identifier,
            "newest_timeline": memory.newest_timeline,
            "evidence": sorted(memory.evidence),
            "master": memory.master,
            "writers": sorted(memory.writers),
        }
    ).encode()


def _replace(path: Path, content: bytes) -> None:
    """Write ``content``; a reader sees all of it, or all of the previous content."""
    path = path.resolve()
    if os.path.lexists(path) and not path.is_file():  # a loop: resolved without error since 3.13
        raise ValueError("not a regular file")
    prefix, suffix = f".{path.name}.", ".tmp"
    _remove_leftovers(path.parent, prefix, suffix)
    # A random name, because another instance may be configured with the same file.
    with NamedTemporaryFile(dir=path.parent, prefix=prefix, suffix=suffix, delete=False) as file:
        new = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            new.replace(path)
        except BaseException:
            new.unlink()
            raise


def _remove_leftovers(directory: Path, prefix: str, suffix: str) -> None:
    """Remove the temporary files of processes that were killed while they wrote."""
    oldest = time.time() - _TEMPORARY_FILE_MAX_AGE
    for path in directory.iterdir():
        if path.name.startswith(prefix) and path.name.endswith(suffix):
            with suppress(OSError):
                if path.lstat().st_mtime < oldest:
                    path.unlink()
