"""The requests of the clients: a path and its parameters.

Equal requests may share one HTTP request, and an answer is stored under its request.
"""

from typing import Literal, NamedTuple, get_args
from urllib.parse import urlencode

from pgstatus.client.lsn import parse_position

Fallback = Literal["master", "stale", "none"]
Question = Literal[
    "master",
    "replica",
    "sync_by_time",
    "sync_by_bytes",
    "sync_by_time_or_bytes",
    "sync_by_time_and_bytes",
    "most_sync_by_bytes",
]


class Request(NamedTuple):
    """One endpoint with its parameters."""

    path: str
    params: tuple[tuple[str, str], ...] = ()
    # Separate from the other parameters, because one answer may serve many positions.
    min_lsn: str | None = None
    wait_ms: int | None = None

    def target(self) -> str:
        """The path with the query string."""
        params = list(self.params)
        if self.min_lsn is not None:
            params.append(("min_lsn", self.min_lsn))
        if self.wait_ms is not None:
            params.append(("wait_ms", str(self.wait_ms)))
        return f"{self.path}?{urlencode(params)}" if params else self.path

    def watch_target(self) -> str:
        """The path of its notifications with the query string."""
        return "/watch" if self == HOSTS else f"/watch{self.target()}"


HOSTS = Request("/hosts")
MASTER = Request("/master")


def selection(
    path: str,
    *,
    lag_ms: int | None = None,
    lag_bytes: int | None = None,
    fallback: Fallback | None = None,
    min_lsn: str | None = None,
    wait_ms: int | None = None,
) -> Request:
    """A request for one host. ValueError: pg-status would reject the parameters."""
    params = []
    for name, value in (("lag_ms", lag_ms), ("lag_bytes", lag_bytes)):
        if value is not None:
            params.append((name, str(_unsigned(name, value))))
    if fallback is not None:
        if fallback not in get_args(Fallback):
            raise ValueError(f"invalid fallback {fallback!r}: expected master, stale or none")
        params.append(("fallback", fallback))
    if min_lsn is not None:
        parse_position(min_lsn)
    if wait_ms is not None:
        _unsigned("wait_ms", wait_ms)
    return Request(path, tuple(params), min_lsn, wait_ms)


def watched(
    question: Question | Literal["hosts"],
    *,
    lag_ms: int | None = None,
    lag_bytes: int | None = None,
    fallback: Fallback | None = None,
) -> Request:
    """The request whose answers are watched. ValueError: unknown question, invalid parameters."""
    if question != "hosts" and question not in get_args(Question):
        expected = ", ".join(get_args(Question))
        raise ValueError(f"invalid question {question!r}: expected hosts, {expected}")
    return selection(f"/{question}", lag_ms=lag_ms, lag_bytes=lag_bytes, fallback=fallback)


def _unsigned(name: str, value: int) -> int:
    if value < 0:
        raise ValueError(f"invalid {name} {value}: must not be negative")
    return value
