"""From a question to an HTTP request, and from the answer's bytes to a value or an error.

Both clients share this; it holds no connection and reads no clock. The foreign exceptions of the
HTTP library become ours here and nowhere else.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

import httpcore2

from pgstatus.client.errors import (
    DeadlineError,
    NoHostError,
    NotReadyError,
    RefusedError,
    SplitBrainError,
    UnreachableError,
)
from pgstatus.client.lsn import parse_position
from pgstatus.client.model import ChosenHost, HostStatus

T = TypeVar("T")


class Question(NamedTuple, Generic[T]):
    """One thing to ask, and how its answer is read. Equal questions may share one request."""

    path: str
    read: "Callable[[Question[T], str, int, bytes], T]"
    params: tuple[tuple[str, str], ...] = ()
    # Apart from the rest, because an answer serves every position that it is past.
    min_lsn: str | None = None
    wait_ms: int | None = None


def selection(
    path: str,
    *,
    lag_ms: int | None = None,
    lag_bytes: int | None = None,
    min_lsn: str | None = None,
    wait_ms: int | None = None,
) -> Question[ChosenHost]:
    """Ask for one host. ValueError for what pg-status would refuse anyway."""
    limits = (("lag_ms", lag_ms), ("lag_bytes", lag_bytes), ("wait_ms", wait_ms))
    for name, value in limits:
        if value is not None and value < 0:
            raise ValueError(f"{name} must not be negative, and is {value}")
    if min_lsn is not None:
        parse_position(min_lsn)
    params = tuple((name, str(value)) for name, value in limits[:2] if value is not None)
    return Question(path, read_chosen, params, min_lsn, wait_ms)


def all_hosts() -> Question[tuple[HostStatus, ...]]:
    """Ask for every host."""
    return Question("/hosts", read_hosts)


def one_host(host: str) -> Question[HostStatus]:
    """Ask for the state of one host."""
    return Question("/status", read_status, (("host", host),))


@dataclass(frozen=True, slots=True)
class Target:
    """Where pg-status is: ``origin`` is what paths are appended to, ``uds`` a socket's path."""

    origin: str
    uds: str | None
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, url: str, token: str | None) -> "Target":
        """``http(s)://host[:port][/prefix]`` or ``unix:/path``. ValueError: neither."""
        parts = urlsplit(url)
        headers = [("Accept", "application/json"), ("User-Agent", "pg-status-client")]
        if token is not None:
            headers.append(("Authorization", f"Bearer {token}"))
        if parts.scheme == "unix" and parts.path:
            headers.append(("Host", "localhost"))
            return cls("http://localhost", parts.path, tuple(headers))
        if parts.scheme in {"http", "https"} and parts.hostname:
            headers.append(("Host", parts.netloc.rpartition("@")[2]))
            return cls(url.rstrip("/"), None, tuple(headers))
        raise ValueError(f"expected http://host:port or unix:/path, not {url!r}")

    def url(self, asked: Question[T]) -> str:
        params = list(asked.params)
        if asked.min_lsn is not None:
            params.append(("min_lsn", asked.min_lsn))
        if asked.wait_ms is not None:
            params.append(("wait_ms", str(asked.wait_ms)))
        return f"{self.origin}{asked.path}" + (f"?{urlencode(params)}" if params else "")


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn what the HTTP library raises into UnreachableError and DeadlineError."""
    try:
        yield
    except (httpcore2.TimeoutException, TimeoutError) as error:
        raise DeadlineError(f"pg-status did not answer in time: {url}") from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        raise UnreachableError(f"no pg-status at {url}: {error}") from error


def read_chosen(_: Question[ChosenHost], url: str, status: int, body: bytes) -> ChosenHost:
    """The answer of a question that selects one host."""
    answer = _read(url, status, body)
    with _understood(url):
        return ChosenHost(
            host=answer["host"],
            # pg-status 2.2 names only the host, and knows of no port but the usual.
            port=answer.get("port", 5432),
            role=answer.get("role", "unknown"),
            lag_ms=answer.get("lag_ms"),
            lag_bytes=answer.get("lag_bytes"),
            lsn=answer.get("lsn"),
        )


def read_hosts(
    _: Question[tuple[HostStatus, ...]], url: str, status: int, body: bytes
) -> tuple[HostStatus, ...]:
    """The answer of ``/hosts``."""
    answer = _read(url, status, body)
    with _understood(url):
        return tuple(_host_status(entry) for entry in answer)


def read_status(asked: Question[HostStatus], url: str, status: int, body: bytes) -> HostStatus:
    """The answer of ``/status``, which leaves the name out."""
    answer = _read(url, status, body)
    with _understood(url):
        return _host_status({**answer, **dict(asked.params)})


def _host_status(entry: dict[str, Any]) -> HostStatus:
    checked_at = entry.get("checked_at")
    return HostStatus(
        host=entry["host"],
        port=entry.get("port", 5432),
        role=entry.get("role", "master" if entry["master"] else "replica"),
        alive=entry["alive"],
        possible_dead=entry.get("possible_dead", False),
        lag_ms=entry["lag_ms"],
        lag_bytes=entry["lag_bytes"],
        lsn=entry.get("lsn"),
        sync_by_time=entry["sync_by_time"],
        sync_by_bytes=entry["sync_by_bytes"],
        # pg-status 2.2 leaves it to us.
        in_sync=entry.get(
            "in_sync",
            entry["sync_by_time"] and (entry["sync_by_bytes"] or entry["lag_bytes"] is None),
        ),
        timeline=entry.get("timeline"),
        dc=entry.get("dc"),
        geo=entry.get("geo"),
        checked_at=None if checked_at is None else datetime.fromisoformat(checked_at),
        error=entry.get("error"),
        reason=entry.get("reason"),
    )


def _read(url: str, status: int, body: bytes) -> Any:
    if status == 200:
        with _understood(url):
            return json.loads(body)
    fields = _fields(body)
    if status == 404:
        raise NoHostError(f"no host fits {url}: {_words(body, fields, 'reason')}")
    words = _words(body, fields, "error_text")
    if status == 503 and isinstance(fields.get("split_brain"), list):
        raise SplitBrainError(map(str, fields["split_brain"]), f"{url}: {words}")
    if status == 503:
        raise NotReadyError(f"pg-status is not ready: {words}")
    if 400 <= status < 500:
        raise RefusedError(status, f"pg-status refused {url} with {status}: {words}")
    raise UnreachableError(f"{url} answered {status}, which pg-status never does")


@contextmanager
def _understood(url: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreachableError(f"{url} answers, but not as pg-status: {error!r}") from error


def _fields(body: bytes) -> dict[str, Any]:
    """What an answer without a host says; empty where that is no JSON object."""
    try:
        fields = json.loads(body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _words(body: bytes, fields: dict[str, Any], name: str) -> str:
    """Why, as the answer says it."""
    words = fields[name] if name in fields else body[:200].decode("utf-8", "replace")
    return str(words or "no reason given")
