"""The supported versions of Python, wherever they come from."""

import subprocess
from pathlib import Path

from tests.matrix.release import UV, programs
from tests.support.pythons import interpreter

PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
# Debian 14 has the newest ones.
_RELEASE, _PACKAGES, _PROGRAMS = "forky", "python3.14,python3.15", "usr/bin/python3.1?"


def python(version: str) -> Path:
    """An interpreter of this machine, of uv, or of Debian; the latter requires root."""
    if found := interpreter(version):
        return found
    managed = subprocess.run(
        [UV, "python", "find", "--managed-python", "--no-python-downloads", version],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if managed.returncode == 0:
        return Path(managed.stdout.strip())
    found_there = programs(_RELEASE, _PACKAGES, _PROGRAMS)
    return next(program for program in found_there if program.name == f"python{version}")
