"""The directory listing is the architecture: dependencies point one way, and docs/architecture.md
names every package.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "pgstatus"
APPLICATIONS = {"client", "bookmarks", "routing", "sqlalchemy", "psycopg", "asyncpg", "django"}
"""The distribution pg-status-client: it imports nothing of the daemon, nor the daemon of it."""

LIBRARIES = {
    "psycopg": {"monitor", "settings", "demo", "cli", "sqlalchemy", "psycopg", "django"},
    "falcon": {"api"},
    "gunicorn": {"http"},
    "environs": {"settings"},
    "dotenv": {"settings"},
    "prometheus_client": {"telemetry"},
    "httpcore2": {"client"},
    "h11": {"fleet"},
    "nats": {"fleet"},
}
"""The packages that may import a library."""


def layers() -> list[str]:
    """The packages and top-level modules, the highest first."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.partition("<!-- layers -->")[2].partition("<!-- end of layers -->")[0]
    rows = [line.split("|") for line in table.splitlines() if "`" in line]
    return [name for row in rows for name in re.findall(r"`(\w+)(?:/|\.py)`", row[1])]


LAYERS = layers()
MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py" and path != PACKAGE / "__init__.py"
)


def package(path: Path) -> str:
    """``core`` of ``core/tracker.py``, ``lsn`` of ``lsn.py``."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """``pgstatus.core.lag`` for each import of a file, also within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: a relative import"
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif (
            isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pgstatus")
        ):
            # The name may be a module or an object of one.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def module_of(name: str) -> str | None:
    """``core.lag`` of ``pgstatus.core.lag.over``; None if it is not a module of ours."""
    parts = name.split(".")[1:]
    while parts:
        path = PACKAGE.joinpath(*parts)
        if path.with_suffix(".py").exists() or (path / "__init__.py").exists():
            return ".".join(parts)
        parts.pop()
    return None


def test_every_package_is_a_layer() -> None:
    assert sorted(LAYERS) == sorted({package(path) for path in MODULES})


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_upward_import(path: Path) -> None:
    depth = {name: index for index, name in enumerate(LAYERS)}
    mine = package(path)
    ours = {
        name.split(".")[1]
        for name in imports(path)
        if name.startswith("pgstatus.") and name != "pgstatus.__version__"
    }
    if mine in APPLICATIONS:
        assert ours <= APPLICATIONS
    else:
        assert not ours & APPLICATIONS
    assert {name for name in ours if depth[name] < depth[mine]} == set()


def test_no_import_cycle() -> None:
    graph = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): {
            module
            for name in imports(path)
            if name.startswith("pgstatus.") and (module := module_of(name)) is not None
        }
        for path in MODULES
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " imports ".join((*trail, module))
        if module in done:
            return
        for imported in graph.get(module, ()):
            visit(imported, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_in_its_place_only(library: str) -> None:
    users = {
        package(path) for path in MODULES for name in imports(path) if name.split(".")[0] == library
    }
    assert users <= LIBRARIES[library]
