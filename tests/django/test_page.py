"""The code of docs/django.md is executed as written; only addresses and names are replaced."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.http import JsonResponse

from tests.django.requests import Browser
from tests.support.daemon import Daemon

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/django.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SETTINGS = [block for block in BLOCKS if re.search(r"^[A-Z_]+ = ", block, re.MULTILINE)]
CODE = [block for block in BLOCKS if block not in SETTINGS]

PROJECT = """
{settings}
SECRET_KEY = "secret"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "examples.django.urls"
INSTALLED_APPS.append("examples.django.notes")
from django.conf import settings
settings.configure(**{{name: value for name, value in globals().items() if name.isupper()}})
import django
django.setup()
from django.core.management import call_command
from django.db import connections
from django.test import Client
call_command("check")
client = Client()
key = client.post("/notes?body=hello", secure=True).json()["id"]
[(name, cookie)] = client.cookies.items()
assert name.startswith("pg-bookmark-") and cookie["secure"]
assert client.get(f"/notes/{{key}}", secure=True).json()["body"] == "hello"
connections.close_all()
print("works")
"""


def test_the_settings_on_a_demo_cluster(notes: Any, daemon: Daemon) -> None:
    settings = "\n".join(SETTINGS).replace("http://127.0.0.1:8000", daemon.url)
    [value] = re.findall(r"On the demo .*, `NAME`, `USER` and `PASSWORD` are `(\w+)`", PAGE)
    for name in ("NAME", "USER", "PASSWORD"):
        settings = re.sub(rf'"{name}": "\w+"', f'"{name}": "{value}"', settings)

    done = subprocess.run(
        [sys.executable, "-c", PROJECT.format(settings=settings)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.endswith("no issues (0 silenced).\nworks\n"), done.stdout + done.stderr


@pytest.fixture
def names(notes: Any) -> dict[str, Any]:
    """What the code of the page defines."""
    names: dict[str, Any] = {"Note": notes, "JsonResponse": JsonResponse}
    for block in CODE:
        exec(block, names)
    return names


def test_the_views_and_tasks(notes: Any, names: dict[str, Any], browser: Browser) -> None:
    browser.run(lambda: notes.objects.create(body="hello"))

    assert browser.run(lambda: names["balance"](None)).content == b'{"count": 1}'
    assert browser.run(lambda: names["latest"](None)).content == b'{"bodies": ["hello"]}'
    assert names["report"]() in {0, 1}  # a replica may be late


def test_the_router_of_several_clusters(notes: Any, names: dict[str, Any]) -> None:
    router = names["Router"]()

    assert router.db_for_write(notes) == "default"
    assert router.allow_migrate("users", "accounts")
    assert router.allow_migrate("default", "notes")
    assert not router.allow_migrate("users", "notes")
    assert not router.allow_migrate("default", "accounts")
    assert not router.allow_migrate("replica", "notes")
