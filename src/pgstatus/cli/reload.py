"""``pg-status reload``: SIGHUP, and the result.

SIGHUP alone returns before the configuration is in effect. This command waits until the process has
checked the hosts of the new configuration, or has refused it.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import TextIO

from pgstatus.cli.remote import Instance
from pgstatus.errors import ConfigError, StartError, UnreachableError, in_a_line
from pgstatus.settings.variables import PREFIX

_PROGRAMS = {"pg-status", "pgstatus"}
_HEADER = "x-pg-status-reloads"
_TIMEOUT = 60.0
_INTERVAL = 0.02


@contextmanager
def environment_of(pid: int) -> Iterator[Mapping[str, str]]:
    """The environment that the process was started with, which contains or names its configuration.

    Meanwhile its directory is the current one, because paths may be relative. If the environment
    cannot be read, or has no configuration, that of this command is used, in its directory.
    """
    environ = _read_environment(pid)
    if environ is None:
        yield os.environ
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(chdir(f"/proc/{pid}/cwd"))
        except OSError as error:
            text = f"the directory of process {pid} cannot be used: {error.strerror}"
            raise StartError(text) from None
        try:
            yield environ
        except ConfigError as error:
            problems = [f"environment of process {pid}: {problem}" for problem in error.problems]
            raise ConfigError(problems, error.warnings, error.hint) from None


def _read_environment(pid: int) -> Mapping[str, str] | None:
    """None: it cannot be read, or has no configuration."""
    try:
        items = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    found = dict(os.fsdecode(item).split("=", 1) for item in items if b"=" in item)
    return found if any(name.lower().startswith(PREFIX) for name in found) else None


def reload_and_wait(instance: Instance, pid: int, out: TextIO = sys.stdout) -> int:
    """Reload process ``pid``, for which `require_daemon` has been called; the exit status.

    ``instance`` is its address. 0: the new configuration is in effect; 1: it was refused.
    StartError: the result is unknown. UnreachableError: there is no response.
    """
    before = _reloads(instance)
    _send(pid, signal.SIGHUP)
    deadline = time.monotonic() + _TIMEOUT
    while (now := _reloads(instance)) == before:
        if time.monotonic() > deadline:
            raise StartError(
                f"the reload has not finished within {_TIMEOUT:g} s; the log shows its progress"
            )
        time.sleep(_INTERVAL)
    if now.endswith("applied"):
        out.write("reloaded\n")
        return 0
    if now.endswith("partial"):
        raise StartError("the configuration of some clusters was refused: see /clusters")
    raise StartError("the configuration was refused and the previous one stays; see the log")


def _send(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except OSError as error:
        raise StartError(f"cannot send a signal to process {pid}: {error.strerror}") from None


def require_daemon(pid: int) -> None:
    """StartError unless the process is a pg-status, or passes signals on to it (tini).

    SIGHUP ends most other processes.
    """
    _send(pid, 0)
    process = Path("/proc", str(pid))
    try:
        arguments = process.joinpath("cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        status = process.joinpath("status").read_text()
    except OSError:  # a system without it
        return
    # The commands, which have an argument, are no daemons.
    is_ours = Path(os.fsdecode(arguments[-1])).name in _PROGRAMS
    masks = re.findall(r"^Sig(?:Cgt|Blk):\s*(\w+)$", status, re.MULTILINE)
    handles = any(int(mask, 16) >> (signal.SIGHUP - 1) & 1 for mask in masks)
    if not is_ours or not handles:
        command = in_a_line(b" ".join(arguments).decode(errors="replace").strip()) or "no command"
        raise StartError(f"process {pid} is not an instance of pg-status ({command})")


def _reloads(instance: Instance) -> str:
    """The number of finished reloads and the result of the last, as in ``3 applied``."""
    headers = {name.lower(): text for name, text in instance.probe("/live").headers.items()}
    found = headers.get(_HEADER)
    if found is None:
        raise UnreachableError(f"{instance.url} is not a pg-status of this release")
    return found
