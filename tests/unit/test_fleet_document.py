"""Documents of evidence: a relay decodes what a watcher encodes; anything else is refused."""

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgstatus.core.snapshot import Checkpoint, Failure, Host, Observation, Position, Standby
from pgstatus.core.state import Look, Memory
from pgstatus.errors import Cause
from pgstatus.fleet.document import MAX_SIZE, Document, DocumentError, Result, decode, encode

HOST = Host("pg1", 5432, "dc1", "eu")
SEEN = Observation(
    in_recovery=True,
    lsn=2**63 + 1,
    timeline=2,
    receiving=True,
    system_identifier=7300000000000000001,
    host_time=1_700_000_000.25,
    replayed_at=1_700_000_000.125,
    started=99.5,
    finished=99.75,
    addresses=frozenset({"10.0.0.1", "fd00::1"}),
    upstream=("10.0.0.2", 5432),
    received_lsn=2**63 + 2,
    upstream_lsn=2**63 + 3,
    standbys=(Standby(None, "walreceiver", "streaming", "async"),),
    control_timeline=1,
    checkpoint=Checkpoint(17, 1_700_000_000.5, "0:747"),
    admits=False,
    refusal="too many connections",
)
DOCUMENT = Document(
    watcher="5f2c",
    name="w1",
    version="0.1.0",
    sent=100.0,
    complete=True,
    results=(
        Result(HOST, Look.ROUND, SEEN),
        Result(HOST, Look.POSITION, Position(True, None, 99.875, 99.9375)),
        Result(HOST, Look.OVERDUE, Failure(Cause.TIMEOUT, "no response for 0.6 s", 99.0, 99.625)),
        Result(Host("fd00::2", 5433), Look.ROUND, None),
    ),
    memory=Memory(7, 2, frozenset({"pg1:5432"}), "pg1:5432", frozenset({"pg2:5432"})),
    ready=True,
    interval=0.25,
)


def test_a_document_is_decoded_as_it_was() -> None:
    assert decode(encode(DOCUMENT)) == DOCUMENT


def test_a_document_is_one_line() -> None:
    assert b"\n" not in encode(DOCUMENT)


def test_unknown_fields_and_kinds_of_a_later_version_are_ignored() -> None:
    content = json.loads(encode(DOCUMENT))
    content["weather"] = {"sun": True}
    content["results"][0]["observation"]["temperature"] = 21.5
    content["results"][0]["observation"]["standbys"][0].append("more")
    content["results"][2]["failure"]["cause"] = "boredom"
    content["results"][1]["look"] = "glance"
    content["results"][3] |= {"look": "round", "started_ms": 1, "finished_ms": 1, "rumour": {}}
    first, _, overdue, _ = DOCUMENT.results
    assert isinstance(overdue.value, Failure)
    other = replace(overdue, value=replace(overdue.value, cause=Cause.PROTOCOL))
    assert decode(json.dumps(content).encode()).results == (first, other)


def test_optional_fields_have_defaults() -> None:
    document = decode(
        b'{"format":1,"watcher":"a","sent":5,"results":[{"host":"h","port":1,"look":"round",'
        b'"started_ms":1,"finished_ms":0,"observation":{"in_recovery":false,"host_time":1}}]}'
    )
    assert document.memory is None
    assert not document.complete
    assert not document.ready
    assert document.results[0].host == Host("h", 1)


def test_a_newer_format_is_named() -> None:
    with pytest.raises(DocumentError, match=r"format 2 is newer than 1"):
        decode(b'{"format":2}')


def test_another_json_is_named() -> None:
    with pytest.raises(DocumentError, match="it has no format"):
        decode(b'{"ready":true}')


def test_text_from_a_server_cannot_invalidate_a_document() -> None:
    standby = Standby(None, "a\x00b\u2028\ud800", "streaming", "async")
    seen = replace(SEEN, standbys=(standby,))
    results = (Result(HOST, Look.ROUND, seen),)
    value = decode(encode(replace(DOCUMENT, results=results))).results[0].value
    assert isinstance(value, Observation)
    assert value.standbys == (replace(standby, name="a b  "),)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), True),
        (("format",), 0),
        (("watcher",), None),
        (("watcher",), 5),
        (("sent",), "now"),
        (("sent",), None),
        (("results",), {}),
        (("results", 0), []),
        (("results", 0, "host"), None),
        (("results", 0, "port"), 65536),
        (("results", 0, "port"), 5432.0),
        (("results", 0, "started_ms"), -1),
        (("results", 0, "started_ms"), 1e300),
        (("results", 0, "started_ms"), 10**400),
        (("results", 0, "finished_ms"), 1000),
        (("results", 0, "observation", "lsn"), -1),
        (("results", 0, "observation", "lsn"), 2**64),
        (("results", 0, "observation", "timeline"), 0),
        (("results", 0, "observation", "timeline"), 2**32),
        (("results", 0, "observation", "in_recovery"), 1),
        (("results", 0, "observation", "host_time"), None),
        (("results", 0, "observation", "upstream"), ["h"]),
        (("results", 0, "observation", "standbys"), [[1, 2, 3, 4]]),
        (("results", 0, "observation", "standbys"), [["a"] * 4] * 1000),
        (("memory", "newest_timeline"), None),
        (("memory", "evidence"), [None]),
        (("interval_ms",), 0),
    ],
)
def test_an_invalid_field_is_refused(path: tuple[Any, ...], value: object) -> None:
    content = json.loads(encode(DOCUMENT))
    place: Any = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(DocumentError):
        decode(json.dumps(content).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"format":1e999}',
        b'{"format":1,"watcher":"a","sent":NaN}',
        b'{"format":1,"watcher":"a","sent":1e999}',
        b'{"format":1,"watcher":"a","sent":' + b"9" * 5000 + b"}",
        b" " * (MAX_SIZE + 1),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        decode(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4)
    ),
    max_leaves=10,
)


@given(st.data())
def test_a_damaged_document_is_decoded_or_refused(data: st.DataObject) -> None:
    content = json.loads(encode(DOCUMENT))
    place: Any = content
    while isinstance(place, list | dict) and place:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], list | dict) or data.draw(st.booleans()):
            place[key] = data.draw(JSON)
            break
        place = place[key]
    with contextlib.suppress(DocumentError):
        decode(json.dumps(content).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_a_document(data: bytes) -> None:
    with pytest.raises(DocumentError):
        decode(data)
