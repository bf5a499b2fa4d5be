"""The client imports neither the daemon nor a framework that the application does not use."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DAEMON = {"falcon", "gunicorn", "environs", "psycopg", "prometheus_client"}
FRAMEWORKS = {"starlette", "fastapi", "flask", "werkzeug"}


def imported_by(statement: str) -> set[str]:
    """The modules that a new interpreter has loaded after the statement."""
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "ours", "absent"),
    [
        ("import pgstatus.client", {"client"}, DAEMON | FRAMEWORKS | {"sqlalchemy"}),
        (
            "import pgstatus.sqlalchemy",
            {"client", "bookmarks", "routing", "sqlalchemy"},
            DAEMON | FRAMEWORKS,
        ),
        (
            "import pgstatus.sqlalchemy.test_utils",
            {"client", "bookmarks", "routing", "sqlalchemy"},
            DAEMON | FRAMEWORKS,
        ),
        (
            "import pgstatus.sqlalchemy.sync.test_utils",
            {"client", "bookmarks", "routing", "sqlalchemy"},
            DAEMON | FRAMEWORKS,
        ),
        (
            "import pgstatus.sqlalchemy.starlette_utils",
            {"client", "bookmarks", "routing", "sqlalchemy"},
            DAEMON | {"fastapi"},
        ),
    ],
)
def test_imports(statement: str, ours: set[str], absent: set[str]) -> None:
    modules = imported_by(statement)
    assert {name.split(".")[1] for name in modules if name.startswith("pgstatus.")} == ours
    assert not modules & absent


@pytest.mark.parametrize(
    ("module", "missing"),
    [("client", "httpcore2"), ("sqlalchemy", "sqlalchemy"), ("sqlalchemy", "itsdangerous")],
)
def test_a_missing_library_names_its_extra(module: str, missing: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; import pgstatus.{module}"
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert f"ImportError: pgstatus.{module} needs the extra '{module}'" in done.stderr


def test_the_synchronous_client_is_up_to_date() -> None:
    """``make unasync`` after a change of the asynchronous one."""
    script = str(ROOT / "packaging/client/generate_sync.py")
    subprocess.run([sys.executable, script, "--check"], check=True)


def test_the_two_distributions_share_the_source_of_lsn() -> None:
    """A link: a copy would be changed in one place only."""
    assert (ROOT / "src/pgstatus/client/lsn.py").readlink() == Path("../lsn.py")
