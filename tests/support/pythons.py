"""The Python interpreters of this machine."""

import os
import shutil
import sys
from pathlib import Path


def interpreter(version: str) -> Path | None:
    """A Python of that version: the running one, of pyenv, or on the path; None: there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = [
        *pyenv.glob(f"versions/{version}.*/bin/python"),
        *(Path(path) for path in [shutil.which(f"python{version}")] if path),
    ]
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == version:
        found.insert(0, Path(sys.executable))
    return found[0] if found else None
