"""Make the synchronous modules from the asynchronous ones, or check that they are up to date.

``make unasync``; with ``--check`` nothing is written, and the exit status is 1 if a file differs.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import unasync

PACKAGE = Path(__file__).parents[2] / "src/pgstatus"
CLIENT, SQLALCHEMY = PACKAGE / "client", PACKAGE / "sqlalchemy"
SYNC = SQLALCHEMY / "sync"

FILES = {CLIENT / "asynchronous.py": CLIENT / "synchronous.py"} | {
    SQLALCHEMY / name: SYNC / name
    for name in ("auto_commit.py", "cluster.py", "session.py", "test_utils.py")
}
NAMES = {
    "AsyncPgStatusClient": "PgStatusClient",
    "AsyncSharing": "Sharing",
    "AsyncTransport": "Transport",
    "AsyncConnection": "Connection",
    "AsyncSession": "Session",
    "async_sessionmaker": "sessionmaker",
    "AsyncExitStack": "ExitStack",
    "asynccontextmanager": "contextmanager",
    "enter_async_context": "enter_context",
    "push_async_callback": "callback",
    "AsyncWatching": "Watching",
}
"""In addition to those of unasync."""
DOCSTRING = '"""The client for threads, generated from `asynchronous`: see ``make unasync``."""\n'
GENERATED = "# Generated from pgstatus/sqlalchemy/{name}: see `make unasync`.\n"

PATTERNS = [
    (r"from sqlalchemy\.ext\.asyncio import Connection, Session\n",
     "from sqlalchemy import Connection\nfrom sqlalchemy.orm import Session\n"),
    (r"from sqlalchemy\.ext\.asyncio import", "from sqlalchemy.orm import"),
    (r"Callable\[\[Session\], Coroutine\[Any, Any, None\]\]", "Callable[[Session], None]"),
    (r"\.sync_session\b", ""),
    (r"\breads_async\b", "reads"),
    (r"is awaited with", "is called with"),
    (r"in whatever task they run", "in this thread"),
]  # fmt: skip
"""For what is more than one token of the code, and for its comments."""


def generate(source: Path, target: Path) -> str:
    text = source.read_text()
    if target.parent == CLIENT:
        text = DOCSTRING + text.partition('"""\n')[2]
    else:
        text = GENERATED.format(name=source.name) + text
    text = without_async(text, NAMES)
    if target.parent == SYNC:
        own = "|".join(path.stem for path in SYNC.glob("*.py"))
        text = re.sub(rf"\bpgstatus\.sqlalchemy\.({own})\b", r"pgstatus.sqlalchemy.sync.\1", text)
        for pattern, replacement in PATTERNS:
            text = re.sub(pattern, replacement, text)
    return formatted(text, target)


def without_async(text: str, names: Mapping[str, str]) -> str:
    """The code with the replacements of unasync, and with those of ``names``."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "asynchronous", "module.py")
        copy.parent.mkdir()
        copy.write_text(text)
        rule = unasync.Rule("/asynchronous/", "/synchronous/", additional_replacements=names)
        unasync.unasync_files([str(copy)], [rule])
        return Path(directory, "synchronous", "module.py").read_text()


def formatted(text: str, target: Path) -> str:
    """The code as ruff writes it in the place of ``target``."""
    for command in (["check", "--quiet", "--fix-only"], ["format", "--quiet"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(target), "-"],
            input=text, capture_output=True, check=True, text=True, cwd=PACKAGE,
        ).stdout  # fmt: skip
    return text


def update(generated: Iterable[tuple[Path, str]]) -> int:
    """Write the files, or compare them with ``--check``; the exit status."""
    differ = 0
    for target, text in generated:
        if sys.argv[1:] == ["--check"]:
            if not target.exists() or target.read_text() != text:
                sys.stderr.write(f"{target} is not up to date: make unasync\n")
                differ = 1
        else:
            target.write_text(text)
    return differ


if __name__ == "__main__":
    sys.exit(update((target, generate(source, target)) for source, target in FILES.items()))
