"""docs/openapi.yaml describes the running service, with one cluster and with several: schemathesis
makes requests from the document, valid and invalid ones, and the responses must be those of the
document.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.several import several_clusters  # noqa: F401

ROOT = Path(__file__).parents[2]
UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv/bin/uv")


def conforms(url: str, directory: Path, *more: str) -> str:
    """Verify the responses at this URL; returns the summary."""
    done = subprocess.run(
        [
            # An environment of its own, with the locked versions.
            UV, "run", "--quiet", "--project", ROOT, "--frozen", "--isolated",
            "--only-group", "openapi", "schemathesis",
            "--config-file", Path(__file__).with_name("schemathesis.toml"),
            "run", ROOT / "docs/openapi.yaml", "--url", url, "--seed", "1",
            "--no-shrink", "--header", "Accept: application/json", "--request-timeout", "10",
            # 503 is documented; a status that is not, as 500, fails.
            "--exclude-checks", "not_a_server_error", "--warnings", "off", "--no-color",
            "--generation-database", "none", *more,
        ],
        cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_document_is_that_of_the_running_service(daemon: Daemon, tmp_path: Path) -> None:
    more = ("--phases", "coverage,fuzzing", "--max-examples", "10")
    assert "Tested: 28" in conforms(daemon.url, tmp_path, *more)


@pytest.mark.parametrize("path", ["", "/c/orders"])
def test_several_clusters(several: Daemon, tmp_path: Path, path: str) -> None:
    """Requests without the name of a cluster, and with it."""
    more = ("--phases", "fuzzing", "--max-examples", "1", "--mode", "positive")
    only = ("--exclude-path-regex", "^/clusters$|^/c/") if path else ()
    conforms(f"{several.url}{path}", tmp_path, *more, *only)
