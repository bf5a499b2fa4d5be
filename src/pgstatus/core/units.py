"""Durations and sizes as people read them. Pure."""

import re

_UNITS = ("B", "kB", "MB", "GB", "TB")
# Up to so many seconds: a unit and its length in seconds, and the same of a smaller unit.
_STEPS = (
    (3600, (60, "min", 1, "s")),
    (86_400, (3600, "h", 60, "min")),
    (float("inf"), (86_400, "d", 3600, "h")),
)


def duration(seconds: float) -> str:
    """``12 ms``, ``3.7 s``, ``2 min 5 s``, ``1 h 2 min``, ``3 d 4 h``; of an int, ``3 s``."""
    if isinstance(seconds, int) and seconds < 60:
        return f"{seconds} s"
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    step, unit, part, subunit = next(units for limit, units in _STEPS if whole < limit)
    count, rest = divmod(whole, step)
    return f"{count} {unit}" + (f" {rest // part} {subunit}" if rest // part else "")


def size(count: float) -> str:
    """``312 B``, ``4.2 kB``, ``17 MB``; powers of 1000."""
    for unit in _UNITS:
        if count < 999.5 or unit == _UNITS[-1]:
            break
        count /= 1000
    digits = 1 if unit != "B" and count < 9.95 else 0
    return f"{count:.{digits}f} {unit}"


def readable(text: str) -> str:
    """``3712 ms behind (limit 1000 ms)`` becomes ``3.7 s behind (limit 1 s)``; bytes likewise."""
    text = re.sub(r"\b(\d{4,19}) ms\b", lambda found: _of_ms(int(found[1])), text)
    return re.sub(r"\b(\d{4,19}) bytes\b", lambda found: size(int(found[1])), text)


def _of_ms(ms: int) -> str:
    return duration(ms // 1000 if ms % 1000 == 0 else ms / 1000)
