"""How many lines the log contains about states that last or return; and keys of the bucket."""

import logging

import pytest

from pgstatus import clock
from pgstatus.fleet.nats.lines import Lines
from pgstatus.fleet.nats.subjects import Subjects, token


def test_a_text_is_logged_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    moment = 1000.0
    monkeypatch.setattr(clock, "now", lambda: moment)
    lines = Lines(logging.getLogger("pgstatus.test"))
    assert [lines.warning("a"), lines.warning("a"), lines.warning("b")] == [True, False, True]
    moment += 61
    assert lines.warning("a")
    assert caplog.messages == ["NATS: a", "NATS: b", "NATS: a"]


def test_the_number_of_texts_is_limited(caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines(logging.getLogger("pgstatus.test"))
    for number in range(1000):
        lines.warning(f"key {number}\n")
    assert len(caplog.messages) < 30
    assert caplog.messages[0] == "NATS: key 0 "


@pytest.mark.parametrize(
    ("name", "key"), [("orders-1_a", "orders-1_a"), ("a.b", "a=2Eb"), ("ä *>", "=C3=A4=20=2A=3E")]
)
def test_names_become_parts_of_keys(name: str, key: str) -> None:
    assert token(name) == key


def test_subjects() -> None:
    subjects = Subjects("pg-status", "orders")
    assert subjects.values == "$KV.pg-status.orders.*"
    assert subjects.value_of("w1.example") == "$KV.pg-status.orders.w1=2Eexample"
    assert subjects.watcher_of(subjects.value_of("w1")) == "w1"
    assert (subjects.clock, subjects.positions) == (
        "pg-status.clock.orders",
        "pg-status.positions.orders",
    )
