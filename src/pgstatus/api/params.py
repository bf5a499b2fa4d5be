"""From the parameters of a request to values, and from values to a response.

An invalid parameter is `Refused` with 400.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import falcon

from pgstatus.api.service import Refused
from pgstatus.core.render import HostFormat
from pgstatus.core.selection import MAX_WAIT_MS, Fallback, Kind, Question, Thresholds
from pgstatus.core.snapshot import HostStatus, Snapshot
from pgstatus.lsn import parse_position

T = TypeVar("T")

MIN_EVERY_MS = 100

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"


def send_json(resp: falcon.Response, value: object) -> None:
    resp.content_type = _JSON
    resp.text = json.dumps(value, ensure_ascii=False)


def send_text(resp: falcon.Response, text: str) -> None:
    resp.content_type = _TEXT
    resp.text = text


def wants_json(req: falcon.Request) -> bool:
    return accepts_json(req.accept)


def accepts_json(accept: str) -> bool:
    """JSON is returned if ``application/json`` is named with q > 0, also beside other types.

    ``application/*`` is equivalent unless text is preferred by its q-value. The default is text.
    """
    accept = accept.lower()  # falcon compares types letter by letter
    for media_range in accept.split(","):
        media_type, *parameters = map(str.strip, media_range.split(";"))
        if media_type == _JSON:
            return not any(re.fullmatch(r"q\s*=\s*0*(\.0*)?", text) for text in parameters)
    try:
        return falcon.mediatypes.best_match(("text/plain", _JSON), accept) == _JSON
    except ValueError:
        return False


def host_format(req: falcon.Request) -> HostFormat:
    """``format=``."""
    return _parameter(req, "format", HostFormat) or HostFormat.HOST


def question(req: falcon.Request, kind: Kind, thresholds: Thresholds) -> Question:
    """A question of this kind, with its limits and ``fallback``."""
    if kind is Kind.MASTER:
        return thresholds.question(kind)
    position = _parameter(req, "min_lsn", parse_position)
    timeline, min_lsn = position or (None, None)
    return thresholds.question(
        kind,
        _parameter(req, "lag_ms", _unsigned),
        _parameter(req, "lag_bytes", _unsigned),
        min_lsn,
        timeline,
        _parameter(req, "fallback", Fallback),
    )


def wait(req: falcon.Request, default: float) -> float:
    """``wait_ms=``: how long the request may wait for a replica, in seconds."""
    wait_ms = _parameter(req, "wait_ms", _unsigned)
    if wait_ms is not None and wait_ms > MAX_WAIT_MS:
        raise Refused(falcon.HTTP_400, "Invalid wait_ms")
    return default if wait_ms is None else wait_ms / 1000


def watched_question(req: falcon.Request, kind: Kind, thresholds: Thresholds) -> Question:
    """A question whose answers are watched: without a position, which every commit changes."""
    if "min_lsn" in req.params:
        raise Refused(falcon.HTTP_400, "min_lsn cannot be watched: request the question itself")
    return question(req, kind, thresholds)


def since(req: falcon.Request) -> str | None:
    """``since=``: the ID of the last known event, for long polling."""
    return _parameter(req, "since", str)


def watch_wait(req: falcon.Request, since: str | None, longest_ms: int) -> float:
    """``wait_ms=``: how long a long poll waits for the next event, in seconds."""
    wait_ms = _parameter(req, "wait_ms", _unsigned)
    if wait_ms is None:
        return longest_ms / 1000
    if since is None:
        raise Refused(falcon.HTTP_400, "wait_ms requires since")
    if wait_ms > longest_ms:
        raise Refused(falcon.HTTP_400, f"Invalid wait_ms: at most {longest_ms}")
    return wait_ms / 1000


def positions_wait(req: falcon.Request) -> float:
    """``wait_ms=`` of a request for position checks, in seconds; it is required."""
    wait_ms = _parameter(req, "wait_ms", _unsigned)
    if wait_ms is None:
        raise Refused(falcon.HTTP_400, "Get parameter 'wait_ms' wasn't passed")
    return min(wait_ms, MAX_WAIT_MS) / 1000


def every(req: falcon.Request) -> float | None:
    """``every_ms=``: changed figures are sent at most this often, in seconds; None: not at all."""
    every_ms = _parameter(req, "every_ms", _unsigned)
    if every_ms is None:
        return None
    if every_ms < MIN_EVERY_MS:
        raise Refused(falcon.HTTP_400, f"Invalid every_ms: at least {MIN_EVERY_MS}")
    return every_ms / 1000


def host_name(req: falcon.Request) -> str:
    """``host=``, which is required."""
    name = _parameter(req, "host", str)
    if not name:
        raise Refused(falcon.HTTP_400, "Get parameter 'host' wasn't passed")
    return name


def named(name: str, snapshot: Snapshot) -> HostStatus | None:
    """The only host of this name, with or without its port; None: there is no such host."""
    found = all_named(name, snapshot)
    if len(found) > 1:
        names = " or ".join(str(status.host) for status in found)
        raise Refused(falcon.HTTP_400, f"host={name} is ambiguous: name the port, as in {names}")
    return found[0] if found else None


def all_named(name: str, snapshot: Snapshot) -> Sequence[HostStatus]:
    """The hosts of this name, with or without a port, in list order."""
    return [s for s in snapshot.hosts if _same(name, s.host.name) or _same(name, str(s.host))]


def _same(name: str, other: str) -> bool:
    """DNS names do not depend on letter case; directories of sockets do."""
    return name == other if other.startswith("/") else name.lower() == other.lower()


def _parameter(req: falcon.Request, name: str, parse: Callable[[str], T]) -> T | None:
    values = req.get_param_as_list(name)
    if values is None:
        return None
    try:
        (value,) = values
        return parse(value)
    except ValueError:
        raise Refused(falcon.HTTP_400, f"Invalid {name}") from None


def _unsigned(text: str) -> int:
    """A decimal number of at most 64 bits without a sign. ValueError for anything else."""
    # int() alone would accept "+1", " 1", "1_000" and digits of other scripts.
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) >= 2**64:
        raise ValueError("expected an unsigned 64-bit number")
    return int(text)
