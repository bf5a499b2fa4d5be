"""The documentation as a web site, built from a copy of its sources."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv/bin/uv")


def build_site(directory: Path) -> Path:
    """The directory of the built site, without the page that `make docs` removes."""
    for name in ("mkdocs.yml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, directory)
    shutil.copytree(ROOT / "docs", directory / "docs")
    done = subprocess.run(
        [
            UV, "run", "--quiet", "--project", ROOT, "--frozen", "--isolated",
            "--only-group", "docs", "zensical", "build", "--strict",
        ],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    site = directory / "site"
    (site / "404.html").unlink()
    return site
