"""The parser of event streams: the same events, however the bytes arrive."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgstatus.fleet.sse import Events, EventTooLargeError

STREAM = (
    b"retry: 1000\n\nevent: evidence\ndata: one\n\n: comment\r\nid: 5\r\ndata:two\r\n\r\n"
    b"data: a\ndata: b\n\nevent: nothing\n\ndata: unfinished"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=10))
def test_events_do_not_depend_on_how_bytes_arrive(cuts: list[int]) -> None:
    events, found = Events(100), []
    places = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(places):
        found += list(events.feed(STREAM[start:end]))
    assert found == [b"one", b"two", b"a\nb"]


@pytest.mark.parametrize("data", [b"x" * 101, b"data: 1234567890\n" * 8])
def test_an_endless_event_is_refused(data: bytes) -> None:
    with pytest.raises(EventTooLargeError):
        list(Events(100).feed(data))
