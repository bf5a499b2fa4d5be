"""Make the synchronous pools from the asynchronous ones, or check that they are up to date.

``make unasync``; with ``--check`` nothing is written, and the exit status is 1 if the files differ.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

ROOT = Path(__file__).parents[2] / "src/pgstatus"
FILES = {
    "routing/reads_async.py": ("routing/reads.py", "The host for a read, for threads"),
    "psycopg/connection_async.py": ("psycopg/connection.py", "A connection, for threads"),
    "psycopg/hosts_async.py": ("psycopg/hosts.py", "The pool of each host, for threads"),
    "psycopg/pools_async.py": ("psycopg/pools.py", "The pools, for threads"),
}
# In code, in docstrings and in the names of types.
TEXT = {
    r"\bAsync(\w+)": r"\1",
    r"\b(connection|hosts|reads)_async\b": r"\1",
    r"``async with``": "``with``",
    r"\bAwaitable\[(\w+)\]": r"\1",
    r"\ba(close|sleep)\b": r"\1",
    r"\benter_async_context\b": "enter_context",
}


def generate(source: str, target: str, subject: str) -> str:
    _, _, code = (ROOT / source).read_text().partition('"""\n')
    for pattern, replacement in TEXT.items():
        code = re.sub(pattern, replacement, code)
    docstring = f'"""{subject}, generated from `{Path(source).stem}`: see ``make unasync``."""\n'
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "async", "module.py")
        path.parent.mkdir()
        path.write_text(docstring + code)
        unasync.unasync_files([str(path)], [unasync.Rule("/async/", "/sync/")])
        text = Path(directory, "sync", "module.py").read_text()
    for command in (["check", "--quiet", "--fix-only"], ["format", "--quiet"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(ROOT / target), "-"],
            input=text, capture_output=True, check=True, text=True, cwd=ROOT,
        ).stdout  # fmt: skip
    return text


def main() -> int:
    changed = False
    for source, (target, subject) in FILES.items():
        path, text = ROOT / target, generate(source, target, subject)
        if not path.exists() or path.read_text() != text:
            changed = True
            if sys.argv[1:] != ["--check"]:
                path.write_text(text)
    return int(changed and sys.argv[1:] == ["--check"])


if __name__ == "__main__":
    sys.exit(main())
