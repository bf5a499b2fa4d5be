"""The pools import nothing that their application does not use."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.test_layers import DAEMON, FRAMEWORKS, imported_by

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("package", "absent"), [("psycopg", "asyncpg"), ("asyncpg", "psycopg")])
def test_imports(package: str, absent: str) -> None:
    modules = imported_by(f"import pgstatus.{package}")
    ours = {name.split(".")[1] for name in modules if name.startswith("pgstatus.")}
    assert ours == {"client", "bookmarks", "routing", package}
    others = (DAEMON | FRAMEWORKS | {"sqlalchemy", "itsdangerous", absent}) - {package}
    assert not modules & others


@pytest.mark.parametrize(
    ("package", "missing"), [("psycopg", "psycopg_pool"), ("asyncpg", "asyncpg")]
)
def test_a_missing_library_names_its_extra(package: str, missing: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; import pgstatus.{package}"
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert f"ImportError: pgstatus.{package} needs the extra '{package}'" in done.stderr


def test_the_synchronous_pools_are_up_to_date() -> None:
    """``make unasync`` after a change of the asynchronous ones."""
    script = str(ROOT / "packaging/client/generate_sync_pools.py")
    subprocess.run([sys.executable, script, "--check"], check=True)
