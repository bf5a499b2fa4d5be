"""The limits on connections, and the name by which the sessions of an instance are recognized."""

import pytest

from pgstatus.core.connections import Usage, raised
from pgstatus.monitor.connections import usage_of
from pgstatus.settings.application_name import MAX_LENGTH, application_name
from tests.support.configuration import Loader


@pytest.mark.parametrize(
    ("used", "limit", "expected"),
    [(0, 4, False), (0, 3, True), (1, 4, True), (89, 100, False), (91, 100, True), (90, 100, False),
     (900, 1000, False), (901, 1000, True), (5, 0, True)],
)  # fmt: skip
def test_a_limit_is_nearly_exhausted(used: int, limit: int, expected: bool) -> None:
    assert Usage("role monitor", used, limit).is_nearly_exhausted is expected


@pytest.mark.parametrize("limit", [0, 1, 5, 10, 100])
def test_a_raised_limit_is_not_nearly_exhausted(limit: int) -> None:
    assert not Usage("role monitor", limit, raised(limit)).is_nearly_exhausted


def test_the_row_of_a_limit() -> None:
    usage = usage_of("role", (b"7", b'a "b"', b"3", b"10"), 7)
    assert usage == Usage('role a "b"', 3, 10, 'ALTER ROLE "a ""b""" CONNECTION LIMIT 20;')
    assert str(usage) == 'role a "b": 7 of 10 connections are free'
    assert usage_of("server", (b"7", None, b"3", b"97"), 7) == Usage("server", 3, 97)
    assert usage_of("role", (b"7", b"a", b"3", b"-1"), 7) is None
    assert usage_of("role", (b"7", b"a", b"3", None), 7) is None
    assert usage_of("role", (b"8", b"a", b"3", b"10"), 7) is None  # through a pooler


@pytest.mark.parametrize(
    "values",
    [(), (b"7", b"a", b"3"), (b"7", b"a", b"x", b"1"), (b"7", b"a", None, b"1"),
     (b"7", b"a", b"1", b"9" * 30), (b"7", b"a", b"9" * 5000, b"1"), (b"7", b"\xff", b"1", b"1")],
)  # fmt: skip
def test_an_invalid_row_of_a_limit(values: tuple[bytes | None, ...]) -> None:
    with pytest.raises(ValueError, match=r"."):
        usage_of("role", values, 7)


@pytest.mark.parametrize(
    ("host", "cluster", "expected"),
    [
        ("web-7f9c", None, "pg-status web-7f9c"),
        ("web-7f9c", "", "pg-status web-7f9c"),
        ("web-7f9c", "orders", "pg-status web-7f9c/orders"),
        ("db.example.com", "orders", "pg-status db.example.com/orders"),
        ("caf\xe9", "Bestellungen f\xfcr\nalle", "pg-status caf?/Bestellungen f?r?alle"),
        ("db." + "x" * 60, "orders", "pg-status db/orders"),
        ("x" * 60 + "-7f9c", None, "pg-status " + "x" * 48 + "-7f9c"),
        ("x" * 60 + "-7f9c", "o" * 30, "pg-status " + "x" * 21 + "-7f9c/" + "o" * 26),
        ("web-7f9c", "o" * 60, "pg-status web-7f9c/" + "o" * 44),
    ],
)
def test_the_application_name(host: str, cluster: str | None, expected: str) -> None:
    name = application_name(host, cluster)
    assert name == expected
    assert len(name.encode()) <= MAX_LENGTH


def test_an_application_name_of_the_user_takes_precedence(load: Loader) -> None:
    settings = load({"PGAPPNAME": "mine"}, hosts="a,postgresql://b/?application_name=own")
    names = [target.params["application_name"] for target in settings.targets]
    assert names == ["mine", "own"]
    assert settings.warnings == ()


@pytest.fixture
def load(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    return Loader(tmp_path_factory.mktemp("home"))
