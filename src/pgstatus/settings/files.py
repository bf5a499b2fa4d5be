"""Reading of files that the configuration names.

Every such file is read through this module: it must be a regular file of limited size, so that a
FIFO, a device, a symbolic link loop or a huge file is an error and never blocks the caller.
"""

import os
import stat
from pathlib import Path

MAX_SIZE = 1024 * 1024
"""Bytes. The largest files in use are bundles of CA certificates, about 220 KiB."""


def read_file(path: Path, limit: int = MAX_SIZE) -> bytes:
    """The content of a regular file. OSError, with the path in its text, if it cannot be read."""
    try:
        _require_regular(path.stat(), limit)  # opening a device may have side effects
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as file:
            _require_regular(os.fstat(descriptor), limit)  # it may have been replaced
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise OSError(f"{path}: {_reason(error)}") from None
    if len(content) > limit:
        raise OSError(f"{path}: {_too_large(limit)}")
    return content


def read_text(path: Path, limit: int = MAX_SIZE) -> str:
    """The content of a text file. OSError or ValueError, with the path in its text."""
    try:
        text = read_file(path, limit).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text") from None
    if "\0" in text:
        raise ValueError(f"{path}: contains a zero byte")
    return text


def is_file(path: Path) -> bool:
    """A regular file exists at this path. Never an error, unlike `Path.is_file`."""
    status = _status(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def exposure(path: Path, *, is_secret: bool) -> str | None:
    """A warning if every user of the machine can change a file or directory, or read its secret."""
    status = _status(path)
    if status is None or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return None
    if status.st_mode & stat.S_IWOTH:
        return f"{path} can be changed by every user of this machine (use chmod o-w)"
    if is_secret and status.st_mode & stat.S_IROTH:
        return (
            f"{path} contains a secret and is readable by every user of this machine "
            "(use chmod o-r)"
        )
    return None


def writable_file_problem(path: Path) -> str | None:
    """Why no regular file can exist at ``path``; None if one exists or can be created."""
    try:
        if not stat.S_ISDIR(path.parent.stat().st_mode):
            return f"{path.parent}: not a directory"
        if not stat.S_ISREG(path.stat().st_mode):
            return f"{path}: not a regular file"
    except FileNotFoundError as error:
        missing = Path(os.fsdecode(error.filename))
        return None if missing == path else f"{missing}: no such directory"
    except (OSError, ValueError) as error:
        return f"{path}: {_reason(error)}"
    return None


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


def _require_regular(status: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    if status.st_size > limit:
        raise ValueError(_too_large(limit))


def _too_large(limit: int) -> str:
    return f"larger than {limit // 1024} KiB"


def _reason(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
