"""psycopg waits for 130 s for a host that does not respond, unless the application sets a limit."""

from typing import Any

import pytest

from pgstatus.psycopg.compat import CONNECT_TIMEOUT, default_timeout


@pytest.mark.parametrize(
    ("conninfo", "kwargs", "expected"),
    [
        ("", {}, {"connect_timeout": CONNECT_TIMEOUT}),
        ("dbname=app", {"user": "app"}, {"connect_timeout": CONNECT_TIMEOUT}),
        ("dbname=app connect_timeout=60", {}, {}),
        ("postgresql:///app?connect_timeout=60", {}, {}),
        ("dbname=app", {"connect_timeout": 60}, {}),
    ],
)
def test_default(conninfo: str, kwargs: dict[str, Any], expected: dict[str, int]) -> None:
    assert default_timeout(conninfo, kwargs) == expected


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "60")
    assert default_timeout("", {}) == {}
