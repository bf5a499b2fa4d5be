"""The text and JSON form of answers. Pure: hosts in, text or plain JSON values out."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from urllib.parse import quote

from pgstatus.core.explain import Verdict
from pgstatus.core.snapshot import HostStatus, Snapshot
from pgstatus.lsn import format_lsn

Json = Mapping[str, str | int | bool | None]

_SELECTION = ("host", "port", "role", "lag_ms", "lag_bytes", "lsn", "dc", "geo")


class HostFormat(StrEnum):
    """``?format=``: the form of the host in a text answer."""

    HOST = "host"
    HOSTPORT = "hostport"
    URI = "uri"


def host_text(status: HostStatus, form: HostFormat) -> str:
    """``pg1``, ``pg1:5432`` or ``postgresql://pg1:5432``."""
    match form:
        case HostFormat.HOST:
            return status.host.name
        case HostFormat.HOSTPORT:
            return str(status.host)
        case HostFormat.URI:
            if status.host.name.startswith("/"):  # a directory: the slashes must not end the host
                return f"postgresql://{quote(status.host.name, safe='')}:{status.host.port}"
            return f"postgresql://{status.host}"


def selection(status: HostStatus | None, reason: str | None, *, stale: bool = False) -> Json:
    """The answer of ``/master``, ``/replica`` and ``/sync_by_*``; without a host, the reason.

    ``stale`` marks a host that exceeds the limits of the question (``fallback=stale``).
    """
    if status is None:
        nothing: dict[str, str | None] = dict.fromkeys(_SELECTION)
        return {**nothing, "reason": reason}
    answer: dict[str, str | int | bool | None] = {
        "host": status.host.name,
        "port": status.host.port,
        "role": status.role,
        "lag_ms": status.lag_ms,
        "lag_bytes": status.lag_bytes,
        "lsn": _lsn(status),
        "dc": status.host.dc,
        "geo": status.host.geo,
    }
    return {**answer, "stale": True} if stale else answer


def explanation(verdicts: Sequence[Verdict]) -> Sequence[Json]:
    """The answer of ``/explain/…``."""
    return [
        {"host": v.status.host.name, "port": v.status.host.port, "chosen": v.chosen, "why": v.why}
        for v in verdicts
    ]


def explanation_text(verdicts: Sequence[Verdict]) -> str:
    """The same as text, one line per host."""
    return "".join(f"{'+' if v.chosen else '-'} {v.status.host} {v.why}\n" for v in verdicts)


def change_report(snapshot: Snapshot, changes: Sequence[str], cluster: str) -> Mapping[str, object]:
    """The input of the ``on_change`` command: the whole state, and which facts have changed."""
    return {
        "cluster": cluster or None,
        "changes": changes,
        "master": None if snapshot.master is None else host_entry(snapshot.master),
        "no_master": snapshot.no_master,
        "masters": snapshot.claims,
        "hosts": [host_entry(status) for status in snapshot.hosts],
    }


def source_entries(snapshot: Snapshot) -> Sequence[Json]:
    """The sources of a relay, and why each delivers no evidence."""
    return [{"name": name, "error": error} for name, error in snapshot.sources]


def host_entry(status: HostStatus) -> Mapping[str, object]:
    """One entry of ``/hosts``; at a relay with the watcher that has checked the host, and what each
    watcher reports if they disagree.
    """
    entry: dict[str, object] = {"host": status.host.name, **host_status(status)}
    if status.watcher is not None:
        entry["watcher"] = status.watcher
    if status.watchers:
        entry["watchers"] = dict(status.watchers)
    return entry


def host_status(status: HostStatus) -> Json:
    """The answer of ``/status``."""
    return {
        "port": status.host.port,
        "dc": status.host.dc,
        "geo": status.host.geo,
        "master": status.master,
        "alive": status.alive,
        "lag_ms": status.lag_ms,
        "sync_by_time": status.sync_by_time,
        "lag_bytes": status.lag_bytes,
        "sync_by_bytes": status.sync_by_bytes,
        "in_sync": status.in_sync,
        "lsn": _lsn(status),
        "role": status.role,
        "possible_dead": status.possible_dead,
        "down": status.down,
        "timeline": status.timeline,
        "checked_at": rfc3339(status.checked_at),
        "error": status.error,
        "reason": status.reason,
        "upstream": status.upstream,
        "admits": status.admits,
        "refusal": status.refusal,
    }


def _lsn(status: HostStatus) -> str | None:
    return None if status.lsn is None else format_lsn(status.lsn)


def rfc3339(moment: datetime | None) -> str | None:
    """RFC 3339, UTC, milliseconds."""
    if moment is None:
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
