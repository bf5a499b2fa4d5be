"""What a client keeps of the notifications, and for how long."""

import json
import random
from dataclasses import replace

import pytest

from pgstatus.client.events import Event
from pgstatus.client.model import Answer, ChosenHost, Hosts
from pgstatus.client.watching import (
    IN_TURN_SECONDS,
    MAX_FRESH,
    Clocks,
    Memory,
    Message,
    Named,
    key_of,
    read_message,
)

PG1, PG2, PG3 = (ChosenHost(name, 5432, "replica", 0, 0, "0/1") for name in ("pg1", "pg2", "pg3"))
MASTER = replace(PG1, role="master")
FRESH = {"fresh_until": "2026-11-26T17:00:30.000Z", "fresh_ms": 30_000}
SENT = 1795712400.0  # 30 s before


def message(kind: str, **content: object) -> Message | None:
    return read_message(Event(kind, json.dumps({"id": "a-1", **FRESH, **content}), ""))


def test_an_answer() -> None:
    hosts = [{"host": "pg2", "port": 5432, "role": "replica", "lag_ms": 0, "lag_bytes": 0,
              "lsn": "0/1"}]  # fmt: skip
    expected = Message("a-1", Answer("a-1", (PG2,), None), SENT, 30.0)
    assert message("answer", hosts=hosts, reason=None, unknown=1) == expected
    empty = message("answer", hosts=[], reason="no live host")
    assert empty is not None
    assert empty.state == Answer("a-1", (), "no live host")


def test_all_hosts() -> None:
    found = message("hosts", ready=True, stale=False, master="pg1:5432", no_master=None, hosts=[])
    assert found is not None
    assert found.state == Hosts("a-1", (), True, False, "pg1:5432", None)


def test_other_events() -> None:
    assert message("alive") == Message("a-1", None, SENT, 30.0)
    assert read_message(Event("message", "?", "")) is None


@pytest.mark.parametrize(
    "content",
    [
        {"fresh_ms": None}, {"fresh_ms": "5"}, {"fresh_ms": "nan"}, {"fresh_ms": float("nan")},
        {"fresh_ms": float("inf")}, {"fresh_ms": 10**400}, {"fresh_until": "soon"},
        {"fresh_until": 5}, {"hosts": 5}, {"hosts": {"a": 1}}, {"hosts": [{}]}, {"hosts": None},
    ],
)  # fmt: skip
def test_an_event_of_another_server(content: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="the server is not pg-status"):
        message("answer", **{"hosts": [], "reason": None, **content})


@pytest.mark.parametrize("data", ["", "x", "[]", "5", "null", "{}", '{"id": "a"}'])
def test_data_of_another_server(data: str) -> None:
    with pytest.raises(ValueError, match="the server is not pg-status"):
        read_message(Event("alive", data, ""))


def test_an_answer_is_never_used_for_long() -> None:
    found = message("alive", fresh_ms=10**12)
    assert found is not None
    assert found.fresh == MAX_FRESH


def sent(at: float) -> Message:
    return Message("a-1", None, at, 30.0)


def test_the_clocks_differ() -> None:
    """The first message was sent after the request, whenever it arrives."""
    clocks = Clocks(asked_at=100.0)
    assert clocks.sent_at(sent(SENT), now=160.0) == 100.0
    assert clocks.sent_at(sent(SENT + 10), now=160.0) == 110.0
    assert clocks.sent_at(sent(SENT + 70), now=170.5) == 170.0


def test_a_delay_does_not_count_as_a_difference_of_the_clocks() -> None:
    clocks = Clocks(asked_at=100.0)
    clocks.sent_at(sent(SENT), now=100.1)
    assert clocks.sent_at(sent(SENT + 10), now=150.0) == 110.0


def test_the_server_clock_is_set() -> None:
    forward, back = Clocks(asked_at=100.0), Clocks(asked_at=100.0)
    for clocks in (forward, back):
        clocks.sent_at(sent(SENT), now=100.0)
    # Its messages since then have the correct age.
    assert forward.sent_at(sent(SENT + 3600 + 10), now=110.0) == 110.0
    assert forward.sent_at(sent(SENT + 3600 + 20), now=130.0) == 120.0
    # They seem to be old: another stream is necessary.
    assert back.sent_at(sent(SENT - 3600 + 10), now=110.0) == 110.0 - 3600


def test_the_hosts_in_turn_until_they_are_not_fresh() -> None:
    memory = Memory()
    assert memory.next(0.0) is None
    memory.set((PG1, PG2, PG3), until=10.0)
    named = [memory.next(9.9) for _ in range(6)]
    assert {*named[:3]} == {PG1, PG2, PG3}
    assert named[3:] == named[:3]
    assert memory.next(10.0) is None
    memory.set((PG1,), until=20.0)
    memory.clear()
    assert memory.next(15.0) is None
    memory.set((), until=20.0)
    assert memory.next(15.0) is None


def test_without_notifications_the_hosts_in_turn_belong_to_the_answer() -> None:
    named = Named()
    assert named.answer(PG1, 0.0).hosts == (PG1,)
    assert named.answer(PG2, 1.0).hosts == (PG1, PG2)
    later = replace(PG1, lsn="0/2")
    assert named.answer(later, 2.0).hosts == (later, PG2)
    assert named.answer(later, 1.0 + IN_TURN_SECONDS).hosts == (later,)
    assert named.answer(MASTER, 20.0).hosts == (MASTER,)
    assert named.answer(PG2, 20.1).hosts == (PG2,)
    named.set((PG3, PG2), 21.0)
    assert named.answer(PG2, 21.1).hosts == (PG3, PG2)


def test_figures_are_no_change() -> None:
    answer = Answer("a-1", (PG1, PG2), None)
    assert key_of(answer) == key_of(Answer("a-2", (replace(PG1, lag_ms=5, lsn="0/9"), PG2), None))
    for other in (
        Answer("a-1", (PG2, PG1), None),
        Answer("a-1", (MASTER, PG2), None),
        Answer("a-1", (PG1,), None),
        Answer("a-1", (PG1, PG2), "a reason"),
    ):
        assert key_of(answer) != key_of(other)


def test_the_random_numbers_of_the_application_are_its_own() -> None:
    """A seed, or a test with hypothesis, must give the same numbers with and without a client."""
    before = random.getstate()
    Memory().set((), 0)
    assert random.getstate() == before
