"""Durations and sizes as people read them."""

import pytest

from pgstatus.core.units import duration, readable, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (3, "3 s"), (0.0, "0 ms"), (0.0124, "12 ms"), (0.9996, "1.0 s"), (3.712, "3.7 s"),
     (59.96, "1 min"), (99.96, "1 min 40 s"), (125, "2 min 5 s"), (3599.7, "1 h"),
     (3720, "1 h 2 min"), (86_399.9, "1 d"), (273_600, "3 d 4 h")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (312, "312 B"), (999, "999 B"), (999.9, "1.0 kB"), (4200, "4.2 kB"),
     (9960, "10 kB"), (17_000_000, "17 MB"), (2**63, "9223372 TB")],
)  # fmt: skip
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3712 ms behind (limit 1000 ms)", "3.7 s behind (limit 1 s)"),
     ("812 ms behind; 5000000 bytes behind", "812 ms behind; 5.0 MB behind"),
     ("no response within 1 s", "no response within 1 s")],
)  # fmt: skip
def test_numbers_in_a_text(text: str, expected: str) -> None:
    assert readable(text) == expected
