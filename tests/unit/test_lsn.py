"""LSNs are read and written as PostgreSQL does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgstatus.lsn import format_lsn, parse_lsn


@given(st.integers(0, 2**64 - 1))
def test_round_trip(lsn: int) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn


@pytest.mark.parametrize(
    ("text", "lsn"), [("0/0", 0), ("0/3000060", 0x3000060), ("1/0", 2**32), ("a/FF", 0xA000000FF)]
)
def test_known_values(text: str, lsn: int) -> None:
    assert parse_lsn(text) == lsn


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "1",
        "1/",
        "/1",
        "1/2/3",
        "G/0",
        "+1/0",
        "0x1/0",
        " 1/0",
        "1/0\n",
        "123456789/0",
        "٣/0",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HEX/HEX"):
        parse_lsn(text)
