"""What is kept, for how long, and whose turn it is."""

from collections import Counter
from dataclasses import replace
from itertools import count

from pgstatus.core.note import Note
from pgstatus.core.snapshot import Snapshot
from pgstatus.http.cache import Answer, ResponseCache
from pgstatus.telemetry.counters import Tally

REQUEST = b"GET /master HTTP/1.1\r\n\r\n"


def answer(body: str = "pg1") -> bytes:
    return b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n" + body.encode()


def replayable(note: Note | None = None) -> Note:
    note = note or Note()
    note.replayable = True
    return note


class Keeper:
    """A memo over a snapshot that can be exchanged."""

    def __init__(self, stale_after: float = float("inf")) -> None:
        self.snapshot = Snapshot((), ready=True, stale_after=stale_after)
        self.memo = ResponseCache(lambda: self.snapshot, 0.0)

    def keep(self, request: bytes = REQUEST, note: Note | None = None, body: str = "pg1") -> None:
        self.memo.keep(request, answer(body), note or replayable(), Tally(), close=False)

    def body(self, request: bytes = REQUEST, now: float = 0.0) -> str | None:
        found = self.memo.find(request, now)
        return None if found is None else found.data.partition(b"\r\n\r\n")[2].decode()


def test_the_same_bytes_find_the_same_answer() -> None:
    keeper = Keeper()
    assert keeper.body() is None
    keeper.keep()
    assert keeper.body() == "pg1"
    assert keeper.body(REQUEST + b" ") is None
    assert keeper.body(REQUEST.replace(b"GET", b"PUT")) is None


def test_a_new_snapshot_forgets() -> None:
    keeper = Keeper()
    keeper.keep()
    keeper.snapshot = replace(keeper.snapshot)
    assert keeper.body() is None


def test_an_answer_made_while_the_snapshot_changed_is_not_kept() -> None:
    keeper = Keeper()
    assert keeper.body() is None
    keeper.snapshot = replace(keeper.snapshot)
    keeper.keep()
    assert keeper.body() is None


def test_what_is_too_old_is_forgotten_and_what_is_said_then_is_kept() -> None:
    keeper = Keeper(stale_after=0.25)
    assert keeper.body(now=0.0) is None
    keeper.keep()
    assert keeper.body(now=0.25) == "pg1"
    assert keeper.body(now=0.26) is None
    keeper.keep(body="too old")
    assert keeper.body(now=99.0) == "too old"


def test_what_is_not_replayable_is_not_kept() -> None:
    keeper = Keeper()
    keeper.keep(note=Note())
    assert keeper.body() is None


def test_answers_take_turns_evenly_and_share_them_with_others() -> None:
    keeper = Keeper()
    turn = count()

    def ask() -> str:
        """As the worker does it."""
        if (known := keeper.body()) is not None:
            return known
        note = replayable(keeper.memo.note(REQUEST))
        body = f"pg{note.pick(turn, 3)}"
        keeper.keep(note=note, body=body)
        return body

    named = [f"pg{next(turn) % 3}" if n % 4 == 1 else ask() for n in range(30)]
    assert named == [f"pg{i % 3}" for i in range(30)]
    assert Counter(named) == {"pg0": 10, "pg1": 10, "pg2": 10}


def test_a_turn_that_could_not_be_answered_is_not_lost() -> None:
    keeper = Keeper()
    turn = count()
    note = replayable()
    assert note.pick(turn, 2) == 0
    keeper.keep(note=note, body="pg0")
    assert keeper.body() is None
    assert keeper.body() is None
    note = replayable(keeper.memo.note(REQUEST))
    assert note.pick(turn, 2) == 1


def test_memory_is_bounded() -> None:
    keeper = Keeper()
    for number in range(20_000):
        keeper.keep(b"GET /replica?min_lsn=0/%x HTTP/1.1\r\n\r\n" % number, body="x" * 1000)
    memo = keeper.memo
    assert memo._size <= 2**20
    assert sum(map(len, memo._entries)) <= 2**20
    assert memo._entries


def test_an_answer_is_dated_when_it_is_given() -> None:
    made = Answer(answer(), Tally(), close=False)
    assert made.data == answer()
    made.redate(b"Fri, 02 Jan 1970 00:00:00 GMT")
    assert made.data == answer().replace(b"Thu, 01", b"Fri, 02")


def test_the_date_is_the_current_second() -> None:
    keeper = Keeper()
    keeper.body()
    keeper.keep()
    found = keeper.memo.find(REQUEST, 0.0)
    assert found is not None
    assert b"1970" not in found.data
    keeper.memo._date = b"Fri, 02 Jan 1970 00:00:00 GMT"
    assert (again := keeper.memo.find(REQUEST, 0.0)) is not None
    assert b"Fri, 02 Jan 1970" in again.data
