"""Log sequence numbers as PostgreSQL writes them: two hexadecimal halves with a slash between.

Inside the program an LSN is the plain 64-bit integer, so that byte lag is a subtraction.
Source: PostgreSQL manual, "pg_lsn Type".
"""

import re

# `\Z`, not `$`: the latter also matches before a final newline.
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})\Z")


def parse_lsn(text: str) -> int:
    """``"0/3000060"`` → bytes from the start of the log. ValueError for anything else."""
    match = _LSN.match(text)
    if match is None:
        raise ValueError(f"an LSN is written as HEX/HEX, as in 0/3000060, not {text!r}")
    return int(match[1], 16) << 32 | int(match[2], 16)


def parse_position(text: str) -> tuple[int | None, int]:
    """``"2:0/3000060"`` → (timeline, LSN); without the timeline, None for it.

    The timeline is decimal, as PostgreSQL shows it (``received_tli``). ValueError for the rest.
    """
    timeline, colon, lsn = text.rpartition(":")
    if colon and not (re.fullmatch(r"[0-9]{1,10}", timeline) and 0 < int(timeline) < 2**32):
        raise ValueError(f"expected HEX/HEX or TIMELINE:HEX/HEX, not {text!r}")
    return int(timeline) if colon else None, parse_lsn(lsn)


def format_lsn(lsn: int) -> str:
    """Bytes from the start of the log → ``"0/3000060"``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
