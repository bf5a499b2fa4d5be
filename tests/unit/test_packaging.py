"""Facts that occur in several files are consistent."""

import os
import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pgstatus.cli.main import _COMMANDS
from pgstatus.cli.parser import parser
from pgstatus.settings.variables import PREFIX
from tests.support.variables_table import default_text, offered

ROOT = Path(__file__).parents[2]
_NOT_IN_THE_FILE = {"env_file"}  # the file cannot name itself
_EXAMPLES = {"hosts": "pg1,pg2,pg3", "http_listen_address": "127.0.0.1"}


UV = os.environ.get("UV") or shutil.which("uv")


@pytest.mark.skipif(UV is None, reason="uv is not on the path")
def test_the_requirements_match_the_lock_file(tmp_path: Path) -> None:
    exported = tmp_path / "requirements.txt"
    subprocess.run(
        ["make", "requirements", f"REQUIREMENTS={exported}", f"UV={UV}"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    assert (ROOT / "packaging/requirements.txt").read_text() == exported.read_text(), (
        "execute `make requirements`"
    )


def test_the_copyright_file_of_the_package_names_every_library() -> None:
    text = (ROOT / "packaging/deb/debian/copyright").read_text()
    patterns = re.findall(r"lib/\S+", text)
    names = re.findall(
        r"^([\w-]+)==", (ROOT / "packaging/requirements.txt").read_text(), re.MULTILINE
    )
    assert len(names) > 10
    for name in names:
        directory = f"lib/{name.replace('-', '_')}-1.0.dist-info"
        assert any(fnmatch(directory, pattern) for pattern in patterns), name


@pytest.mark.parametrize("page", ["packaging/pypi.md", "packaging/client/README.md"])
def test_the_pages_on_pypi_refer_to_no_file(page: str) -> None:
    """PyPI does not have the files of the repository."""
    for target in re.findall(r"\]\(([^)]*)\)", (ROOT / page).read_text()):
        assert target.startswith("https://")


def test_the_configuration_file_of_the_service_lists_every_variable_with_its_default() -> None:
    text = (ROOT / "packaging/deb/pg-status.env").read_text()
    found = dict(re.findall(rf"^#?{PREFIX}(\w+)=(.*)$", text, re.MULTILINE))
    expected = {
        variable.name: default_text(variable)
        for variable in offered()
        if variable.name not in _NOT_IN_THE_FILE
    }
    assert found == expected | _EXAMPLES
    active = re.findall(r"^(\w+)=", text, re.MULTILINE)
    assert active == [f"{PREFIX}http_listen_address"]


def test_completion_and_manual_page_contain_every_command() -> None:
    actions = parser(_COMMANDS)._subparsers
    assert actions is not None
    (choices,) = (action.choices for action in actions._actions if action.dest == "command")
    completion = (ROOT / "packaging/deb/completions/pg-status").read_text()
    manual = (ROOT / "packaging/deb/pg-status.8").read_text()
    for command in choices or ():
        assert re.search(rf"\b{command}\b", completion)
        assert re.search(rf"^\.(Cm|It Cm) {command}\b", manual, re.MULTILINE)


def test_the_completion_offers_every_option() -> None:
    """What bash offers after ``pg-status COMMAND --``."""
    script = ROOT / "packaging/deb/completions/pg-status"
    (choices,) = (
        action.choices
        for action in parser(_COMMANDS)._actions
        if action.dest == "command" and action.choices
    )
    for command, arguments in dict(choices).items():
        line = f"COMP_WORDS=(pg-status {command} --) COMP_CWORD=2; _pg_status"
        done = subprocess.run(
            ["bash", "-c", f"source {script}; {line}; printf '%s\\n' \"${{COMPREPLY[@]}}\""],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        options = {
            next(o for o in action.option_strings if o.startswith("--"))
            for action in arguments._actions
            if action.option_strings
        }
        assert set(done.stdout.split()) == options, command
