"""The parser of ``text/event-stream``. Source: WHATWG HTML, "Server-sent events"."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgstatus.client.events import Event, EventParser


def parse(*parts: bytes) -> list[Event]:
    parser = EventParser()
    return [event for part in parts for event in parser.feed(part)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_lines_of_an_event(end: str) -> None:
    lines = ["retry: 1000", "", ": a comment", "id: 7", "event: answer", "data: {", "data: }", ""]
    text = end.join([*lines, "data:x", ""]) + end
    assert parse(text.encode()) == [Event("answer", "{\n}", "7"), Event("message", "x", "7")]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b"\xef\xbb\xbfdata: x\n\n", [Event("message", "x", "")]),
        (b"data: x\n\xef\xbb\xbfdata: y\n\n", [Event("message", "x", "")]),
        (b"data\n\ndata\ndata\n\n", [Event("message", "", ""), Event("message", "\n", "")]),
        (b"data:  x\n\n", [Event("message", " x", "")]),
        (b"event: a\n\ndata: x\n\n", [Event("message", "x", "")]),
        (b"id: 1\n\ndata: x\n\n", [Event("message", "x", "1")]),
        (b"id: a\0b\nunknown: z\ndata: x\n\n", [Event("message", "x", "")]),
        (b"data: \xff\n\n", [Event("message", "\ufffd", "")]),
        (b"data: x", []),
        (b"data: x\n", []),
        (b"", []),
    ],
    ids=[
        "BOM", "BOM later", "no value", "one space", "no data", "last ID", "NUL", "not UTF-8",
        "no end", "no empty line", "nothing",
    ],
)  # fmt: skip
def test_details(text: bytes, events: list[Event]) -> None:
    assert parse(text) == events
    assert parse(*(bytes([byte]) for byte in text)) == events


LINE = st.sampled_from(["data: ä", "data: ", "id: 1", ": c", "event: e", "", "", "\ufeff"])


@given(st.data(), st.lists(LINE), st.sampled_from(["\n", "\r\n", "\r"]))
def test_any_split(data: st.DataObject, lines: list[str], end: str) -> None:
    text = end.join(lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert parse(*parts) == parse(text)


def test_the_size_of_an_event_is_limited() -> None:
    def feed(parser: EventParser, data: bytes) -> int:
        return len(list(parser.feed(data)))

    for endless in (b"data: xxxx\n", b"x", b"unknown: x\n"):
        parser = EventParser(max_bytes=1000)
        with pytest.raises(ValueError, match="larger than 1000 bytes"):
            for _ in range(1001):
                feed(parser, endless)
    # Neither comments nor many events count.
    parser = EventParser(max_bytes=1000)
    assert sum(feed(parser, b"data: xxxx\n\n: comment\n") for _ in range(1001)) == 1001
    for _ in range(1001):
        feed(parser, b": comment\n")
