"""docs/architecture.md is true: it names every module, and imports never point up its table."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "pgstatus"
APPLICATIONS = {"client", "sqlalchemy"}


def layers() -> list[set[str]]:
    """The modules and packages of each layer, the highest first."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.partition("Imports never point up:")[2].partition("Where to find")[0]
    rows = [line.split("|") for line in table.splitlines() if "`" in line]
    return [set(re.findall(r"`(\w+)/?`", row[2])) for row in rows]


LAYERS = layers()
MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py" and path != PACKAGE / "__init__.py"
)


EDGES = {
    "psycopg": {"probe", "demo"},
    "falcon": {"api"},
    "gunicorn": {"server", "fastlane", "exchange"},
    "environs": {"variables"},
    "dotenv": {"envfile"},
    "prometheus_client": {"metrics"},
    "httpcore2": {"client"},
}
"""Who may know a library."""


def unit(path: Path) -> str:
    """``tracker`` of ``tracker.py``, ``api`` of ``api/wire.py``."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """``pgstatus.lag`` for each import of a file, also within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: a relative import"
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "pgstatus":
            yield from (f"pgstatus.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_every_module_has_one_layer() -> None:
    named = [name for layer in LAYERS for name in layer]
    assert sorted(named) == sorted({unit(path) for path in MODULES})


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_never_point_up(path: Path) -> None:
    depth = {name: index for index, layer in enumerate(LAYERS) for name in layer}
    mine = unit(path)
    below = {name for name in depth if depth[name] >= depth[mine]}
    if mine in APPLICATIONS:
        below |= {"lsn", "errors"}
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("pgstatus.")}
    assert not ours - below - {"__version__"}


@pytest.mark.parametrize("library", EDGES)
def test_a_library_is_known_where_it_belongs(library: str) -> None:
    users = {
        unit(path) for path in MODULES for name in imports(path) if name.split(".")[0] == library
    }
    assert users == EDGES[library]
