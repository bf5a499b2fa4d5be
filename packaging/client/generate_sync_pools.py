"""Make the synchronous pools from the asynchronous ones, or check that they are up to date.

``make unasync``; with ``--check`` nothing is written, and the exit status is 1 if the files differ.
"""

import re
import sys
from pathlib import Path

from generate_sync import PACKAGE, formatted, update, without_async

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
    _, _, code = (PACKAGE / source).read_text().partition('"""\n')
    for pattern, replacement in TEXT.items():
        code = re.sub(pattern, replacement, code)
    docstring = f'"""{subject}, generated from `{Path(source).stem}`: see ``make unasync``."""\n'
    return formatted(without_async(docstring + code, {}), PACKAGE / target)


if __name__ == "__main__":
    sys.exit(
        update(
            (PACKAGE / target, generate(source, target, subject))
            for source, (target, subject) in FILES.items()
        )
    )
