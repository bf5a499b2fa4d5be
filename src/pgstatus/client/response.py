"""From the bytes of an HTTP response to a value or an error. No input or output."""

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from pgstatus.client.errors import (
    ClientError,
    NoHostError,
    NotReadyError,
    RefusedError,
    SplitBrainError,
    UnreachableError,
)
from pgstatus.client.model import ChosenHost, HostStatus

T = TypeVar("T")


class Response(NamedTuple):
    """A complete HTTP response."""

    url: str
    status: int
    body: bytes


def read_chosen(response: Response) -> ChosenHost:
    """The response to a request that selects one host."""
    return _read(response, chosen_host)


def read_hosts(response: Response) -> tuple[HostStatus, ...]:
    """The response of ``/hosts``."""
    return _read(response, host_statuses)


def find_host(hosts: Iterable[HostStatus], name: str) -> HostStatus:
    """The host with this name, or ``name:port``, in any letter case; the first of several.

    NoHostError: there is none.
    """
    wanted = name.lower()
    for status in hosts:
        if wanted in {status.host.lower(), f"{status.host.lower()}:{status.port}"}:
            return status
    raise NoHostError(f"pg-status has no host {name!r}")


def chosen_host(answer: dict[str, Any]) -> ChosenHost:
    return ChosenHost(
        host=answer["host"],
        # pg-status 2.2 sends only the name, and supports only the default port.
        port=answer.get("port", 5432),
        role=answer.get("role", "unknown"),
        lag_ms=answer.get("lag_ms"),
        lag_bytes=answer.get("lag_bytes"),
        lsn=answer.get("lsn"),
        dc=answer.get("dc"),
        geo=answer.get("geo"),
        stale=answer.get("stale", False),
    )


def host_statuses(entries: list[dict[str, Any]]) -> tuple[HostStatus, ...]:
    return tuple(_host_status(entry) for entry in entries)


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
        # pg-status 2.2 does not send it.
        in_sync=entry.get(
            "in_sync",
            entry["sync_by_time"] and (entry["sync_by_bytes"] or entry["lag_bytes"] is None),
        ),
        timeline=entry.get("timeline"),
        dc=entry.get("dc"),
        geo=entry.get("geo"),
        # Python 3.10 does not read the Z of RFC 3339.
        checked_at=checked_at and datetime.fromisoformat(checked_at.replace("Z", "+00:00")),
        error=entry.get("error"),
        reason=entry.get("reason"),
        upstream=entry.get("upstream"),
        admits=entry.get("admits"),
        refusal=entry.get("refusal"),
    )


def _read(response: Response, convert: Callable[[Any], T]) -> T:
    """The content of a 200 response; any other response is an error."""
    url, status, body = response
    if status != 200:
        raise _error(url, status, body)
    try:
        return convert(json.loads(body))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnreachableError(
            f"{url}: unexpected response, the server is not pg-status ({error!r})"
        ) from error


def _error(url: str, status: int, body: bytes) -> ClientError:
    fields = _fields(body)
    if status == 404:
        return NoHostError(f"no host matches {url}: {_reason(body, fields, 'reason')}")
    reason = _reason(body, fields, "error_text")
    if status == 503 and isinstance(fields.get("split_brain"), list):
        return SplitBrainError(map(str, fields["split_brain"]), f"{url}: {reason}")
    if status == 503:
        return NotReadyError(f"pg-status is not ready: {reason.removeprefix('not ready: ')}")
    if 400 <= status < 500:
        return RefusedError(status, f"pg-status refused {url} with status {status}: {reason}")
    return UnreachableError(f"{url}: unexpected status {status}, the server is not pg-status")


def _fields(body: bytes) -> dict[str, Any]:
    """The JSON object of an error response, empty if it is none."""
    try:
        fields = json.loads(body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _reason(body: bytes, fields: dict[str, Any], name: str) -> str:
    reason = fields[name] if name in fields else body[:200].decode("utf-8", "replace")
    return str(reason or "no reason given")
