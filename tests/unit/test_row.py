"""Whatever a host sends is an observation or a ValueError."""

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgstatus.core.snapshot import Standby
from pgstatus.monitor import row
from pgstatus.monitor.facts import AURORA, FACTS, RECEIVER, ROLE, STANDBYS, WAL_FILE, grants
from tests.support.liar import HONEST, STREAMING

VALUES = st.one_of(
    st.none(),
    st.sampled_from([b"t", b"f", b"", b"0", b"-1", b"0/0", b"1e999", b"\xff", b"9" * 400]),
    st.integers(-(10**20), 10**20).map(lambda n: str(n).encode()),
    st.binary(max_size=30),
)


@given(st.lists(VALUES, min_size=20, max_size=20))
def test_any_row(values: list[bytes | None]) -> None:
    try:
        seen, _ = row.read(tuple(values), FACTS, 0.0, 0.1)
    except ValueError:
        return
    assert isfinite(seen.host_time)
    assert seen.lsn is None or 0 <= seen.lsn < 2**64
    assert seen.timeline is None or 0 < seen.timeline < 2**32


@given(st.sampled_from(sorted(HONEST)), VALUES, st.booleans())
def test_one_wrong_value(name: str, value: bytes | None, primary: bool) -> None:
    values = (HONEST if primary else STREAMING) | {name: value}
    try:
        row.read(tuple(values.values()), FACTS, 0.0, 0.1)
    except ValueError:
        return


def test_a_streaming_standby() -> None:
    seen, hidden = row.read(tuple(STREAMING.values()), FACTS, 1.0, 1.5)
    assert seen.in_recovery
    assert (seen.lsn, seen.received_lsn, seen.upstream_lsn) == (0x3000060,) * 3
    assert (seen.timeline, seen.receiving, seen.upstream) == (1, True, ("pg1", 5432))
    assert (seen.started, seen.finished) == (1.0, 1.5)
    assert not hidden


def test_the_standbys_of_a_primary() -> None:
    lines = b"10.0.0.2\tpg2\tstreaming\tsync\n\twalreceiver\tcatchup\tasync"
    seen, hidden = row.read(tuple((HONEST | {"standbys": lines}).values()), FACTS, 0.0, 0.1)
    assert seen.standbys == (
        Standby("10.0.0.2", "pg2", "streaming", "sync"),
        Standby(None, "walreceiver", "catchup", "async"),
    )
    assert not hidden


@pytest.mark.parametrize("values", [HONEST | {"standbys": b"\t\t\t"},
                                    STREAMING | {"received_timeline": None}])  # fmt: skip
def test_details_that_are_hidden_from_the_role(values: dict[str, bytes | None]) -> None:
    seen, hidden = row.read(tuple(values.values()), FACTS, 0.0, 0.1)
    assert hidden
    assert seen.standbys is None or seen.timeline is None


def test_the_own_address_of_a_server() -> None:
    for text, address in ((b"10.1.2.3", "10.1.2.3"), (b"FE80:0::1", "fe80::1")):
        seen, _ = row.read(tuple((HONEST | {"address": text}).values()), FACTS, 0.0, 0.1)
        assert seen.addresses == {address}
    with pytest.raises(ValueError, match="does not appear to be"):
        row.read(tuple((HONEST | {"address": b"db.example"}).values()), FACTS, 0.0, 0.1)


def test_a_row_of_few_facts() -> None:
    """A receiver that cannot be read leaves the timeline of a replica unknown."""
    facts = [fact for fact in FACTS if fact not in {RECEIVER, STANDBYS, WAL_FILE}]
    values = [value for name, value in STREAMING.items()
              if name not in {"receiving", "received_timeline", "latest_end", "standbys",
                              "wal_file"}]  # fmt: skip
    seen, _ = row.read(tuple(values), facts, 0.0, 0.1)
    assert (seen.timeline, seen.standbys, seen.control_timeline) == (None, None, 1)
    values = [b"f", b"1700000000000000", b"700"]
    seen, _ = row.read(tuple(values), [ROLE, AURORA], 0.0, 0.1)
    assert (seen.lsn, seen.timeline) == (700, None)


def test_the_grant_is_for_what_the_message_names() -> None:
    message = "permission denied for function pg_walfile_name"
    assert list(grants(WAL_FILE, message, '"w"')) == [
        'GRANT EXECUTE ON FUNCTION pg_walfile_name(pg_lsn) TO "w";'
    ]
    assert len(list(grants(WAL_FILE, "keine Berechtigung", '"w"'))) == 2
