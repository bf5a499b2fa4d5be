"""Log sequence numbers in PostgreSQL's notation: two hexadecimal halves separated by a slash.

An LSN is handled as the 64-bit integer that it stands for, so that byte lag is a subtraction.
Source: PostgreSQL manual, "pg_lsn Type".
"""

import re

# `\Z`, not `$`: the latter also matches before a final newline.
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})\Z")


def parse_lsn(text: str) -> int:
    """``"0/3000060"`` → byte position in the log. ValueError: not an LSN."""
    match = _LSN.match(text)
    if match is None:
        raise ValueError(f"invalid LSN {text!r}: expected HEX/HEX, for example 0/3000060")
    return int(match[1], 16) << 32 | int(match[2], 16)


def parse_position(text: str) -> tuple[int | None, int]:
    """``"2:0/3000060"`` → (timeline, LSN). Without a timeline it is None.

    The timeline is decimal, as PostgreSQL displays it (``received_tli``). ValueError: neither form.
    """
    timeline, colon, lsn = text.rpartition(":")
    if colon and not (re.fullmatch(r"[0-9]{1,10}", timeline) and 0 < int(timeline) < 2**32):
        raise ValueError(f"invalid position {text!r}: expected HEX/HEX or TIMELINE:HEX/HEX")
    return int(timeline) if colon else None, parse_lsn(lsn)


def format_lsn(lsn: int) -> str:
    """Byte position in the log → ``"0/3000060"``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
