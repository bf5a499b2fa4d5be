"""docs/openapi.yaml describes the running service: schemathesis makes requests from the document,
valid and invalid ones, and the responses must be those of the document.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.daemon import Daemon

ROOT = Path(__file__).parents[2]
UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv/bin/uv")


def test_the_document_is_that_of_the_running_service(daemon: Daemon, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            # An environment of its own, with the locked versions.
            UV, "run", "--quiet", "--project", ROOT, "--frozen", "--isolated",
            "--only-group", "openapi", "schemathesis",
            "--config-file", Path(__file__).with_name("schemathesis.toml"),
            "run", ROOT / "docs/openapi.yaml", "--url", daemon.url, "--seed", "1",
            "--phases", "coverage,fuzzing", "--max-examples", "10", "--no-shrink",
            "--header", "Accept: application/json", "--request-timeout", "10",
            # 503 is documented; a status that is not, as 500, fails.
            "--exclude-checks", "not_a_server_error", "--warnings", "off", "--no-color",
            "--generation-database", "none",
        ],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "Tested: 27" in done.stdout
