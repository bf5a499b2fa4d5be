"""The parts of gunicorn that `http.wsgi` and `http.worker` depend on.

If one of these tests fails, gunicorn has changed: read the change, verify that `http/wsgi.py` is
still correct, then adjust the test and the pin in pyproject.toml.
"""

import ast
import hashlib
import inspect
from pathlib import Path

import gunicorn
import pytest
from gunicorn.http import body, message, unreader, wsgi

HTTP = Path(__file__).parents[2] / "src" / "pgstatus" / "http"


def test_release() -> None:
    assert gunicorn.version_info[:2] == (27, 0)


@pytest.mark.parametrize(
    ("part", "digest"),
    [
        (message.HeaderPolicy, "84bc24b291e7"),
        (message.Message, "1998788a8a48"),
        (message.Request, "5fb06ef65d3b"),
        (body.Body, "2a2afc0b6a50"),
        (unreader.Unreader, "84aaa8f91fcd"),
        (wsgi.create, "2c35d4a2dc62"),
        (wsgi.default_environ, "b7e18b84d829"),
    ],
    ids=lambda part: getattr(part, "__qualname__", ""),
)
def test_source_is_the_one_that_was_read(part: object, digest: str) -> None:
    source = inspect.getsource(part)  # type: ignore[arg-type]
    assert hashlib.sha256(source.encode()).hexdigest()[:12] == digest


def test_the_parser_is_used_in_one_module() -> None:
    users = {
        path.name
        for path in HTTP.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("gunicorn")
        and node.module != "gunicorn.workers.base"
    }
    assert users == {"wsgi.py"}
