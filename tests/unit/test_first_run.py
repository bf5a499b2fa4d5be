"""What a new user installs, and what is reported if something is missing."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pgstatus.demo import binaries
from pgstatus.errors import StartError

ROOT = Path(__file__).parents[2]


def test_without_postgresql_the_demo_names_the_commands_that_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StartError) as raised:
        binaries.bundled("18")
    text = str(raised.value)
    assert text.startswith("the programs of the PostgreSQL server are missing.")
    (requirement,) = re.findall(rf"{sys.executable} -m pip install '([^']+)'", text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [requirement] == project["optional-dependencies"]["demo"]
    installed = [
        str(program.parent) for program in Path("/usr/lib/postgresql").glob("*/bin/postgres")
    ]
    if installed:
        (found,) = re.findall(r"pg-status demo --bindir (\S+)$", text)
        assert found in installed
    else:
        assert "apt-get install postgresql" in text


@pytest.mark.parametrize(
    "code",
    [
        "import pgstatus.daemon.process",
        "from pgstatus.cli.main import main; main(['health', '--url', 'http://127.0.0.1:1'])",
        "from pgstatus.cli.main import main; main(['check', '--config-only'])",
    ],
)
def test_the_daemon_and_its_probes_do_not_import_the_libraries_of_the_command_line(
    code: str,
) -> None:
    check = "import sys; print([m for m in sys.modules if m.split('.')[0] in {'rich', 'pygments'}])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"],
        env={"pg_status__hosts": "192.0.2.1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_daemon_imports_what_only_some_configurations_need_when_it_is_needed() -> None:
    names = {"h11", "nats", "psycopg", "prometheus_client"}
    code = f"import sys, pgstatus.daemon.process; print([m for m in {names} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_rich_needs_none_of_the_libraries_that_the_packages_leave_out() -> None:
    """packaging/requirements.txt does not contain them."""
    requirements = (ROOT / "packaging/requirements.txt").read_text()
    contained = re.findall(r"^([\w-]+)==", requirements, re.MULTILINE)
    assert "rich" in contained
    left_out = {"markdown-it-py": "markdown_it", "mdurl": "mdurl", "pygments": "pygments"}
    assert left_out.keys().isdisjoint(contained)
    names = [*left_out.values()]
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({names}))\n"
        "from pgstatus.cli.main import main\n"
        "sys.exit(main(['check', '--color', 'always']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"pg_status__hosts": "127.0.0.1:1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert "FAILED" in done.stdout
