"""The Makefile: when the environment is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "uv.lock", "pyproject.toml", "packaging/client/pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def commands(checkout: Path, target: str) -> str:
    """What ``make target`` would execute."""
    return subprocess.run(
        ["make", "--dry-run", target], cwd=checkout, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("target", ["run", "failover", "test", "check", ".venv"])
def test_an_interrupted_installation_is_completed(checkout: Path, target: str) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    assert " sync --frozen" in commands(checkout, target)


def test_a_complete_installation_is_used(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    for stamp in (".run", ".dev"):
        (checkout / ".venv" / stamp).touch()
    for target in ("run", "test", ".venv"):
        assert " sync " not in commands(checkout, target)


def test_running_requires_no_development_tools(checkout: Path) -> None:
    assert "--no-dev" in commands(checkout, "run")
    assert "--no-dev" not in commands(checkout, "test")
