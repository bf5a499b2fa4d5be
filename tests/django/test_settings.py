"""What the system checks report, and the connection that is refused for the same reason."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from pgstatus.bookmarks.exchange import Bookmarks
from pgstatus.django.cluster import cluster_of
from pgstatus.django.options import Options, master_of, problem_of_master, problems, replicas

URL = "http://127.0.0.1:8000"


def entry(pg_status: Any, **changes: Any) -> dict[str, Any]:
    return {
        "ENGINE": "pgstatus.django",
        "NAME": "postgres",
        "HOST": "",
        "PORT": "",
        "OPTIONS": {"pg_status": pg_status, **changes.pop("OPTIONS", {})},
        **changes,
    }


VALID = [
    {"url": URL},
    {"url": "unix:/run/pg-status.sock", "token": "0123456789abcdef", "deadline": 0.5},
    {"url": URL, "ca": Path("/etc/ca.pem")},
    {"url": URL, "role": "replica", "lag_ms": 500, "lag_bytes": 0, "wait_ms": 20, "master": "x"},
]

INVALID = [
    (entry(None), "E001", "must be a dictionary with a URL"),
    (entry({"role": "replica"}), "E001", "must be a dictionary with a URL"),
    (entry({"url": URL, "lag": 5}), "E002", "unknown option lag"),
    (entry({"url": URL, "deadline": "1"}), "E003", "expected a number"),
    (entry({"url": URL, "role": "slave"}), "E004", "expected 'master' or 'replica'"),
    (entry({"url": URL, "lag_ms": 5}), "E004", "applies to the role 'replica' only"),
    (entry({"url": URL, "role": "replica", "lag_ms": "5"}), "E004", "expected an integer"),
    (entry({"url": URL, "role": "replica", "lag_ms": True}), "E004", "expected an integer"),
    (entry({"url": URL}, HOST="pg1"), "E005", "HOST must not be set"),
    (entry({"url": URL}, PORT=5432), "E005", "PORT must not be set"),
    (entry({"url": URL}, OPTIONS={"hostaddr": "::1"}), "E005", "OPTIONS['hostaddr'] must not be"),
    (entry({"url": URL}, OPTIONS={"pool": True}), "E006", "use CONN_MAX_AGE"),
    (entry({"url": URL, "token": 1}), "E003", "['token'] must be text"),
    (entry({"url": 8000}), "E003", "['url'] must be text"),
    (entry({"url": URL, "ca": 1}), "E003", "['ca'] must be text"),
    (entry({"url": URL}, NAME=""), "E010", "NAME must be set"),
    (entry({"url": URL}, OPTIONS={"connect_timout": 2}), "E011", '"connect_timout"'),
]


@pytest.mark.parametrize("given", VALID)
def test_valid_options(given: dict[str, Any]) -> None:
    assert list(problems(entry(given))) == []
    assert Options.of("default", entry(given)).url == given["url"]


def test_options_of_the_driver() -> None:
    options = {
        "connect_timeout": 2, "application_name": "a b", "sslmode": "require", "options": "-c x=1",
        "isolation_level": 1, "server_side_binding": True, "assume_role": "app",
        "prepare_threshold": None,
    }  # fmt: skip

    assert list(problems(entry({"url": URL}, OPTIONS=options))) == []
    assert list(problems(entry({"url": URL}, NAME="", OPTIONS={"service": "app"}))) == []


@pytest.mark.parametrize(("given", "number", "text"), INVALID)
def test_each_problem_is_named(given: dict[str, Any], number: str, text: str) -> None:
    [(found, message)] = problems(given)

    assert found == number
    assert text in message
    with pytest.raises(ImproperlyConfigured, match="default"):
        Options.of("default", given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"url": "127.0.0.1:8000"}, "expected http://host:port"),
        ({"url": "https://x", "ca": "/nonexistent"}, "No such file"),
        ({"url": URL, "token": "se cret"}, r"invalid token \(not shown\)"),
    ],
)
def test_options_of_the_client(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=text):
        cluster_of(Options.of("default", entry(given)))


def test_a_replica_belongs_to_the_master_with_its_url() -> None:
    databases = {
        "default": entry({"url": URL}),
        "replica": entry({"url": URL, "role": "replica"}),
        "users": entry({"url": "http://127.0.0.2:8000"}),
        "users_replica": entry({"url": "http://127.0.0.2:8000", "role": "replica"}),
        "sqlite": {"ENGINE": "django.db.backends.sqlite3"},
    }

    assert replicas(databases) == {"replica": "default", "users_replica": "users"}
    assert master_of("users", databases) == "users"
    assert master_of("sqlite", databases) is None
    assert master_of("missing", databases) is None


def test_a_replica_names_its_master_if_several_have_its_url() -> None:
    databases = {
        "default": entry({"url": URL}),
        "users": entry({"url": URL}),
        "replica": entry({"url": URL, "role": "replica"}),
        "users_replica": entry({"url": URL, "role": "replica", "master": "users"}),
        "other_replica": entry({"url": URL, "role": "replica", "master": "replica"}),
    }

    assert replicas(databases) == {
        "replica": None,
        "users_replica": "users",
        "other_replica": None,
    }


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"max_age": "60"}, "max_age is '60'; expected an integer > 0"),
        ({"max_age": 0}, "max_age is 0; expected"),
        ({"max_age": True}, "max_age is True; expected"),
        ({"carrier": "session"}, "carrier is 'session'; expected 'cookie' or 'header'"),
        ({"pin_seconds": None}, "pin_seconds is None; expected a number >= 0"),
        ({"pin_seconds": float("nan")}, "pin_seconds is nan; expected"),
        ({"name": "pg bookmark"}, "name is 'pg bookmark'; expected"),
        ({"name": ""}, "name is ''; expected"),
        ({"name": b"x"}, "name is b'x'; expected"),
        ({"secure": "yes"}, "secure is 'yes'; expected True or False"),
        ({"secret": ""}, "secret must not be empty"),
        ({"secret": 5}, "secret must be text, or a sequence of texts"),
        ({"secret": ["x", None]}, "secret must be text, or a sequence of texts"),
    ],
)
def test_options_of_the_bookmark(given: dict[str, Any], text: str) -> None:
    """They are those of the middlewares for ASGI and WSGI, too."""
    with pytest.raises(ValueError, match=re.escape(text)):
        Bookmarks(**{"secret": "secret", **given})


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("{'max_age': '60'}", "max_age is '60'; expected an integer > 0."),
        (
            "{'carier': 'cookie'}",
            "unknown option carier; known are carrier, max_age, name, pin_seconds, secure.",
        ),
        ("None", "must be a dictionary."),
    ],
)
def test_the_check_of_the_bookmark(setting: str, text: str) -> None:
    output = check("DATABASES", f"PG_STATUS_BOOKMARK = {setting}")

    assert "(pgstatus.E009) PG_STATUS_BOOKMARK" in output
    assert text in output


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"url": URL}, "several masters have its url: default, users"),
        ({"url": URL + "/"}, f"no master has its url '{URL}/'"),
        ({"url": None}, "no master has its url None"),
        ({"url": URL, "master": "nope"}, "is 'nope', which is not the alias of a master"),
        ({"url": URL, "master": ["users"]}, "is ['users'], which is not the alias of a master"),
        ({"url": "unix:/x", "master": "users"}, f"its url 'unix:/x' differs from '{URL}'"),
    ],
)
def test_the_master_of_a_replica_is_wrong(given: dict[str, Any], text: str) -> None:
    databases = {
        "default": entry({"url": URL}),
        "users": entry({"url": URL}),
        "broken": entry(None),
        "replica": entry({"role": "replica", **given}),
    }

    assert text in str(problem_of_master("replica", databases))


def check(databases: str, more: str = "") -> str:
    """The output of ``manage.py check`` with these settings."""
    program = f"""
from django.conf import settings
from django.core.management import execute_from_command_line
from examples.django.settings import *
DATABASES = {databases}
{more}
settings.configure(**{{name: value for name, value in globals().items() if name.isupper()}})
execute_from_command_line(["manage.py", "check"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_the_check_of_valid_settings_reports_nothing() -> None:
    output = check("DATABASES")

    assert "no issues" in output, output


def test_the_check_warns_of_attempts_to_connect_without_a_limit() -> None:
    output = check("DATABASES", 'del DATABASES["default"]["OPTIONS"]["connect_timeout"]')

    assert "(pgstatus.W004) DATABASES['default']: OPTIONS['connect_timeout'] is not set" in output


def test_the_check_reports_all_problems_together() -> None:
    output = check(
        'DATABASES | {"replica": database(role="replica", master="default")'
        ' | {"NAME": "x", "ATOMIC_REQUESTS": True}, "a": database(role="replica", master="b"),'
        ' "c": database(lag_ms=5) | {"HOST": "pg1"},'
        ' "d": database(role="replica", ca="x")}',
        "DATABASE_ROUTERS = []\nMIDDLEWARE.reverse()\nPG_STATUS_BOOKMARK = {'age': 5}",
    )

    for number in ("E003", "E004", "E005", "E007", "E008", "E009", "W001", "W002", "W003"):
        assert f"(pgstatus.{number})" in output, output
    assert "what those before it write is not noted" in output
