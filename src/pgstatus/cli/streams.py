"""The standard streams of a command: closed ones, encodings other than UTF-8, and full disks."""

import errno
import io
import json
import os
import sys
from typing import TextIO

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def prepare() -> None:
    """Replace closed standard streams (``2>&-``) by the null device, and escape characters that the
    encoding does not have.

    Otherwise the next file or connection would get their descriptors, and receive log lines.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.dup2(descriptor, number)
            os.set_inheritable(number, True)
            if descriptor != number:
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def report(level: str, *sentences: str) -> None:
    """Write to standard error."""
    for sentence in sentences:
        sys.stderr.write(f"pg-status: {level}: {sentence}\n")


def write_json(value: object, out: TextIO) -> None:
    """One line, also in an encoding without all characters."""
    encoding = (getattr(out, "encoding", None) or "utf-8").lower().replace("-", "")
    out.write(json.dumps(value, ensure_ascii=encoding != "utf8") + "\n")
    out.flush()


def end_of_output(error: OSError) -> str | None:
    """Give up standard output, which cannot be written to; the reason, if it is worth a message.

    The error is raised again if it is not about output.
    """
    is_closed = isinstance(error, BrokenPipeError)  # the reader has ended
    if not is_closed and error.errno not in _FULL:
        raise error
    # What is buffered would be written at the end of the process, and fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return None if is_closed else f"{error.filename or 'standard output'}: {error.strerror}"
