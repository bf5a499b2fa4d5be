"""The supported versions of Python, wherever they come from."""

import os
import subprocess
from pathlib import Path

from tests.matrix.release import UV, programs
from tests.support.pythons import interpreter

PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
CLIENT_PYTHONS = ("3.10", *PYTHONS)
# The releases of Debian and Ubuntu that have them.
_NEWEST = ("forky", "python3.14,python3.15")
_RELEASES = {
    "3.10": ("jammy", "python3.10"),
    "3.11": ("bookworm", "python3.11"),
    "3.12": ("noble", "python3.12"),
    "3.13": ("trixie", "python3.13"),
    "3.14": _NEWEST,
    "3.15": _NEWEST,
}


def python(version: str) -> Path:
    """An interpreter of this machine, of uv, or of a distribution. LookupError: there is none."""
    if found := interpreter(version):
        return found
    tried = []
    for source in (_of_uv, _of_distribution):
        try:
            return source(version)
        except (LookupError, OSError, subprocess.CalledProcessError) as error:
            tried.append(f"{error} {getattr(error, 'stderr', None) or ''}".strip())
    raise LookupError(
        f"there is no Python {version} on this machine: install it as python{version} on the path "
        f"or with pyenv. It could not be downloaded either:\n" + "\n".join(tried)
    )


def _of_uv(version: str) -> Path:
    """Installed by uv, which downloads it from GitHub."""
    _uv("install", version)
    return Path(_uv("find", "--no-project", "--managed-python", version).strip())


def _uv(*arguments: str) -> str:
    done = subprocess.run([UV, "python", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def _of_distribution(version: str) -> Path:
    if version not in _RELEASES:
        raise LookupError(f"no release of Debian or Ubuntu is known to have Python {version}")
    if os.geteuid() != 0:
        raise LookupError("installation from a release of Debian or Ubuntu requires root")
    suite, packages = _RELEASES[version]
    found = programs(suite, packages, "usr/bin/python3.1?")
    return next(program for program in found if program.name == f"python{version}")
