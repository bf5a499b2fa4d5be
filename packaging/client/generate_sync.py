"""Make the synchronous client from the asynchronous one, or check that it is up to date.

``make unasync``; with ``--check`` nothing is written, and the exit status is 1 if the files differ.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

CLIENT = Path(__file__).parents[2] / "src/pgstatus/client"
SOURCE, TARGET = CLIENT / "asynchronous.py", CLIENT / "synchronous.py"
NAMES = {
    "AsyncPgStatusClient": "PgStatusClient",
    "AsyncSharing": "Sharing",
    "AsyncTransport": "Transport",
    "AsyncWatching": "Watching",
}
DOCSTRING = '"""The client for threads, generated from `asynchronous`: see ``make unasync``."""\n'


def generate() -> str:
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "asynchronous", TARGET.name)
        source.parent.mkdir()
        _, _, code = SOURCE.read_text().partition('"""\n')
        source.write_text(DOCSTRING + code)
        rule = unasync.Rule("/asynchronous/", "/synchronous/", additional_replacements=NAMES)
        unasync.unasync_files([str(source)], [rule])
        result = source.parents[1] / "synchronous" / TARGET.name
        text = result.read_text()
    for command in (["check", "--quiet", "--fix-only"], ["format", "--quiet"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(TARGET), "-"],
            input=text, capture_output=True, check=True, text=True, cwd=CLIENT,
        ).stdout  # fmt: skip
    return text


def main() -> int:
    text = generate()
    if sys.argv[1:] == ["--check"]:
        return 0 if TARGET.read_text() == text else 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
