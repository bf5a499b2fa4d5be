"""Facts that occur in several files are consistent."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pgstatus.cli.main import _parser
from pgstatus.settings.variables import PREFIX, VARIABLES

ROOT = Path(__file__).parents[2]
# Names of version 1.0 are accepted but not documented in the file; the file cannot name itself.
_NOT_IN_THE_FILE = {"sleep", "env_file"}
_EXAMPLES = {"hosts": "pg1,pg2,pg3", "http_listen_address": "127.0.0.1"}


@pytest.mark.skipif(
    not (os.environ.get("UV") or shutil.which("uv")), reason="uv is not on the path"
)
def test_the_requirements_match_the_lock_file() -> None:
    exported = subprocess.run(
        [
            os.environ.get("UV", "uv"), "export", "--quiet", "--frozen", "--no-dev",
            "--no-emit-project", "--no-annotate", "--no-header",
        ],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (ROOT / "packaging/requirements.txt").read_text() == exported.stdout, (
        "uv export --frozen --no-dev --no-emit-project --no-annotate --no-header "
        "--output-file packaging/requirements.txt"
    )


def test_the_configuration_file_of_the_service_lists_every_variable_with_its_default() -> None:
    text = (ROOT / "packaging/deb/pg-status.env").read_text()
    found = dict(re.findall(rf"^#?{PREFIX}(\w+)=(.*)$", text, re.MULTILINE))
    expected = {
        variable.name: ""
        if variable.default is None
        else f"{variable.default:g}"
        if isinstance(variable.default, float)
        else str(variable.default)
        for variable in VARIABLES
        if variable.name not in _NOT_IN_THE_FILE
    }
    assert found == expected | _EXAMPLES
    active = re.findall(r"^(\w+)=", text, re.MULTILINE)
    assert active == [f"{PREFIX}http_listen_address"]


def test_completion_and_manual_page_contain_every_command() -> None:
    actions = _parser()._subparsers
    assert actions is not None
    (choices,) = (action.choices for action in actions._actions if action.dest == "command")
    completion = (ROOT / "packaging/deb/completions/pg-status").read_text()
    manual = (ROOT / "packaging/deb/pg-status.8").read_text()
    for command in choices or ():
        assert re.search(rf"\b{command}\b", completion)
        assert re.search(rf"^\.(Cm|It Cm) {command}\b", manual, re.MULTILINE)
