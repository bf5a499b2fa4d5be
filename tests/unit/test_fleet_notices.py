"""What is logged about watchers: each change once."""

from pgstatus import __version__
from pgstatus.core.snapshot import Failure, Host, Observation
from pgstatus.core.state import Look, Rules
from pgstatus.errors import Cause
from pgstatus.fleet.document import Document, Result, Value
from pgstatus.fleet.merge import Merge
from pgstatus.fleet.notices import Notices

PG1 = Host("pg1", 5432)


class Relay:
    """Two watchers of one host, whose clocks are that of the relay."""

    def __init__(self) -> None:
        self.merge = Merge(["http://w1", "http://w2"])
        self.notices = Notices()

    def send(self, source: str, at: float, value: Value = None, version: str = __version__) -> None:
        document = Document(
            watcher=source,
            name=source.removeprefix("http://"),
            version=version,
            sent=at,
            complete=True,
            results=(Result(PG1, Look.ROUND, value),),
            memory=None,
            ready=True,
        )
        self.merge.received(source, document, at, at)

    def logged(self, now: float, sleep: float = 1.0) -> list[str]:
        rules = Rules(sleep=sleep)
        return [event.text for event in self.notices.events(self.merge, (PG1,), rules, now)]


def seen(at: float) -> Observation:
    return Observation(True, 1, 1, True, 7, 0.0, None, at, at)


def test_a_watcher_is_lost_and_back() -> None:
    relay = Relay()
    relay.send("http://w1", 1.0)
    assert relay.logged(1.0) == []
    relay.merge.lost("http://w1")
    relay.notices.lost("http://w1", "Connection refused")
    assert relay.logged(1.1) == ["http://w1: no evidence: Connection refused"]
    relay.notices.lost("http://w1", "Connection refused")
    assert relay.logged(1.2) == []
    relay.send("http://w1", 2.0)
    assert relay.logged(2.0) == ["http://w1: evidence is received again"]
    assert relay.logged(2.1) == []


def test_a_silent_watcher_is_lost() -> None:
    relay = Relay()
    relay.send("http://w1", 1.0)
    assert relay.logged(3.9) == []
    assert relay.logged(4.1) == ["http://w1: no evidence: no document for 3 s"]
    assert relay.logged(5.0) == []


def test_another_version_is_logged_once() -> None:
    relay = Relay()
    relay.send("http://w1", 1.0, version="9.9")
    (text,) = relay.logged(1.0)
    assert text == f"http://w1: version 9.9 (this instance: {__version__})"
    relay.send("http://w1", 2.0, version="9.9")
    assert relay.logged(2.0) == []


def test_a_longer_interval_is_logged_once() -> None:
    relay = Relay()
    relay.send("http://w1", 1.0)
    (text,) = relay.logged(1.0, sleep=0.5)
    assert "every 1000 ms, but sleep_ms of this instance is 500" in text
    assert relay.logged(1.1, sleep=0.5) == []


def test_a_lasting_disagreement_is_logged_once() -> None:
    relay = Relay()
    found = []
    for second in range(1, 20):
        relay.send(
            "http://w1", second, Failure(Cause.CONNECT, "Connection refused", second, second)
        )
        relay.send("http://w2", second, seen(second))
        found += relay.logged(second)
    assert found == [
        (
            "pg1:5432: the watchers disagree: not reachable from w1: Connection refused; "
            "reachable from w2"
        )
    ]
    relay.send("http://w1", 20, seen(20))
    assert relay.logged(20) == ["pg1:5432: the watchers agree again"]


def test_watchers_agree_only_if_there_are_several() -> None:
    relay = Relay()
    for second in range(1, 20):
        failure = Failure(Cause.CONNECT, "Connection refused", second, second)
        relay.send("http://w1", second, failure)
        relay.send("http://w2", second, seen(second))
        relay.logged(second)
    for watcher in ("http://w1", "http://w2"):
        relay.merge.lost(watcher)
        relay.notices.lost(watcher, "Connection refused")
        assert relay.logged(20) == [f"{watcher}: no evidence: Connection refused"]
    relay.send("http://w2", 21, seen(21))
    assert relay.logged(21) == ["http://w2: evidence is received again"]
    relay.send("http://w1", 22, seen(22))
    assert relay.logged(22)[1:] == ["pg1:5432: the watchers agree again"]


def test_a_short_disagreement_is_not_logged() -> None:
    relay = Relay()
    relay.send("http://w1", 1, Failure(Cause.CONNECT, "Connection refused", 1, 1))
    relay.send("http://w2", 1, seen(1))
    assert relay.logged(1) == []
    relay.send("http://w1", 2, seen(2))
    assert relay.logged(2) == []
