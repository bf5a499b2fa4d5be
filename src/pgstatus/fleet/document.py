"""The JSON form of evidence: what a watcher has observed, for relays. Pure.

Any bytes may arrive, and from another version. A document that violates this form is refused as a
whole. Fields that are not known are ignored, and missing ones have defaults, so that a later
version may add some.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pgstatus.core.snapshot import Checkpoint, Failure, Host, Observation, Position, Standby
from pgstatus.core.state import Look, Memory
from pgstatus.errors import Cause, in_a_line
from pgstatus.fleet.fields import Fields, FieldsError

FORMAT = 1
"""Increased when documents change in a way that former versions would misunderstand."""
MAX_SIZE = 4 * 1024 * 1024
"""Bytes of a document at most: 1000 hosts with 100 standbys each need less."""

_MAX_HOSTS = 2000
_MAX_STANDBYS = 200
_MAX_ADDRESSES = 100
_MAX_AGE_MS = 1000 * 86400 * 366.0
_PORT = (0, 65535)
_TIMELINE = (1, 2**32 - 1)
_LSN = (0, 2**64 - 1)
_IDENTIFIER = (-(2**63), 2**64 - 1)

_LOOKS = {look.name.lower(): look for look in Look}

Value: TypeAlias = Observation | Failure | Position | None


class DocumentError(ValueError):
    """It is not a document of evidence; the message is readable text."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check; its times are on the clock of the watcher."""

    host: Host
    look: Look
    value: Value
    """None: the host was not checked yet."""


@dataclass(frozen=True, slots=True)
class Document:
    """What one watcher has observed."""

    watcher: str
    """The epoch of its process, random at the start: its clock is comparable only within it."""
    name: str
    """Its host name, for people."""
    version: str
    """Of its pg-status."""
    sent: float
    """When the document was made, on the watcher's monotonic clock."""
    complete: bool
    """It contains every host; otherwise those with a new result since the previous document."""
    results: tuple[Result, ...]
    """Of one host in the order of the checks. A complete document may contain several of a host:
    its last successful check, and what followed."""
    memory: Memory | None
    ready: bool
    """The watcher has checked every host."""
    interval: float = 1.0
    """Seconds between two rounds of the watcher."""


def encode(document: Document) -> bytes:
    """One line of JSON. Times of checks are ages in milliseconds, relative to ``sent``."""
    memory = document.memory
    content = {
        "format": FORMAT,
        "watcher": document.watcher,
        "name": document.name,
        "version": document.version,
        "sent": round(document.sent, 6),
        "complete": document.complete,
        "ready": document.ready,
        "interval_ms": round(document.interval * 1000, 3),
        "memory": None if memory is None else _of_memory(memory),
        "results": [_of_result(result, document.sent) for result in document.results],
    }
    return json.dumps(content, separators=(",", ":")).encode()


def decode(data: bytes) -> Document:
    """The document; `DocumentError` for anything else."""
    if len(data) > MAX_SIZE:
        raise DocumentError(f"larger than {MAX_SIZE} bytes")
    try:
        content = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise DocumentError("not JSON") from None
    try:
        return _document(Fields(content))
    except FieldsError as error:
        raise DocumentError(str(error)) from None


def _of_memory(memory: Memory) -> Mapping[str, object]:
    return {
        "system_identifier": memory.system_identifier,
        "newest_timeline": memory.newest_timeline,
        "evidence": sorted(memory.evidence),
        "master": memory.master,
        "writers": sorted(memory.writers),
    }


def _of_result(result: Result, sent: float) -> Mapping[str, object]:
    host, value = result.host, result.value
    entry: dict[str, object] = {"host": host.name, "port": host.port}
    if host.dc is not None:
        entry["dc"] = host.dc
    if host.geo is not None:
        entry["geo"] = host.geo
    if value is None:
        return entry
    entry["look"] = result.look.name.lower()
    entry["started_ms"] = round((sent - value.started) * 1000, 3)
    entry["finished_ms"] = round((sent - value.finished) * 1000, 3)
    if isinstance(value, Failure):
        entry["failure"] = {
            "cause": value.cause.value,
            "message": value.message,
            "down": value.down,
        }
    elif isinstance(value, Position):
        entry["position"] = {"in_recovery": value.in_recovery, "lsn": value.lsn}
    else:
        entry["observation"] = _of_observation(value)
    return entry


def _of_observation(seen: Observation) -> Mapping[str, object]:
    entry = {
        "in_recovery": seen.in_recovery,
        "lsn": seen.lsn,
        "timeline": seen.timeline,
        "receiving": seen.receiving,
        "system_identifier": seen.system_identifier,
        "host_time": seen.host_time,
        "replayed_at": seen.replayed_at,
        "addresses": sorted(seen.addresses),
        "upstream": seen.upstream,
        "received_lsn": seen.received_lsn,
        "upstream_lsn": seen.upstream_lsn,
        "standbys": None
        if seen.standbys is None
        else [(s.address, s.name, s.state, s.sync_state) for s in seen.standbys],
        "control_timeline": seen.control_timeline,
        "checkpoint": None
        if seen.checkpoint is None
        else (seen.checkpoint.lsn, seen.checkpoint.time, seen.checkpoint.next_xid),
        "admits": seen.admits,
        "refusal": seen.refusal,
    }
    return {name: value for name, value in entry.items() if value is not None}


def _document(fields: Fields) -> Document:
    found = fields.integer("format", 1, 2**31)
    if found is None:
        raise FieldsError("not evidence of pg-status: it has no format")
    if found > FORMAT:
        raise FieldsError(
            f"format {found} is newer than {FORMAT}: this pg-status is older than the watcher"
        )
    sent = fields.required(fields.number("sent"), "sent")
    results = (_result(entry, sent) for entry in fields.objects("results", 3 * _MAX_HOSTS))
    memory = fields.object("memory")
    return Document(
        watcher=fields.required(fields.text("watcher", 100), "watcher"),
        name=fields.text("name", 255) or "unnamed",
        version=fields.text("version", 100) or "unknown",
        sent=sent,
        complete=fields.boolean("complete") or False,
        results=tuple(result for result in results if result is not None),
        memory=None if memory is None else _memory(memory),
        ready=fields.boolean("ready") or False,
        interval=(fields.number("interval_ms", 1, 86_400_000) or 1000) / 1000,
    )


def _memory(fields: Fields) -> Memory:
    return Memory(
        system_identifier=fields.integer("system_identifier", *_IDENTIFIER),
        newest_timeline=fields.required(
            fields.integer("newest_timeline", *_TIMELINE), "newest_timeline"
        ),
        evidence=frozenset(fields.texts("evidence", _MAX_HOSTS)),
        master=fields.text("master", 300),
        writers=frozenset(fields.texts("writers", _MAX_HOSTS)),
    )


def _result(fields: Fields, sent: float) -> Result | None:
    """None: a kind of check that a later version has added."""
    host = Host(
        fields.required(fields.text("host", 300), "host"),
        fields.required(fields.integer("port", *_PORT), "port"),
        fields.text("dc", 255),
        fields.text("geo", 255),
    )
    name = fields.text("look", 50)
    if name is None:
        return Result(host, Look.ROUND, None)
    look = _LOOKS.get(name)
    started = sent - fields.required(_age(fields, "started_ms"), "started_ms")
    finished = sent - fields.required(_age(fields, "finished_ms"), "finished_ms")
    if finished < started:
        raise FieldsError("finished_ms: expected no more than started_ms")
    value = _value(fields, started, finished)
    return None if look is None or value is None else Result(host, look, value)


def _age(fields: Fields, name: str) -> float | None:
    age = fields.number(name, 0.0, _MAX_AGE_MS)
    return None if age is None else age / 1000


def _value(fields: Fields, started: float, finished: float) -> Value:
    if (entry := fields.object("observation")) is not None:
        return _observation(entry, started, finished)
    if (entry := fields.object("failure")) is not None:
        return _failure(entry, started, finished)
    if (entry := fields.object("position")) is not None:
        return Position(_in_recovery(entry), entry.integer("lsn", *_LSN), started, finished)
    return None


def _in_recovery(fields: Fields) -> bool:
    return fields.required(fields.boolean("in_recovery"), "in_recovery")


def _failure(fields: Fields, started: float, finished: float) -> Failure:
    message = fields.text("message", 1000) or "unknown"
    try:
        cause = Cause(fields.text("cause", 50) or "")
    except ValueError:  # of a later version
        cause = Cause.PROTOCOL
    return Failure(
        cause, in_a_line(message), started, finished, down=fields.boolean("down") or False
    )


def _observation(fields: Fields, started: float, finished: float) -> Observation:
    return Observation(
        in_recovery=_in_recovery(fields),
        lsn=fields.integer("lsn", *_LSN),
        timeline=fields.integer("timeline", *_TIMELINE),
        receiving=fields.boolean("receiving") or False,
        system_identifier=fields.integer("system_identifier", *_IDENTIFIER),
        host_time=fields.required(fields.number("host_time"), "host_time"),
        replayed_at=fields.number("replayed_at"),
        started=started,
        finished=finished,
        addresses=frozenset(fields.texts("addresses", _MAX_ADDRESSES)),
        upstream=_upstream(fields.array("upstream", 2)),
        received_lsn=fields.integer("received_lsn", *_LSN),
        upstream_lsn=fields.integer("upstream_lsn", *_LSN),
        standbys=_standbys(fields.array("standbys", _MAX_STANDBYS)),
        control_timeline=fields.integer("control_timeline", *_TIMELINE),
        checkpoint=_checkpoint(fields.array("checkpoint", 3)),
        admits=fields.boolean("admits"),
        refusal=fields.text("refusal", 1000),
    )


def _upstream(row: Sequence[Any] | None) -> tuple[str, int] | None:
    if row is None:
        return None
    fields = Fields.of_row(row, ("host", "port"), "upstream")
    return (
        fields.required(fields.text("host", 300), "host"),
        fields.required(fields.integer("port", *_PORT), "port"),
    )


def _standbys(rows: Sequence[Any] | None) -> tuple[Standby, ...] | None:
    if rows is None:
        return None
    names = ("address", "name", "state", "sync_state")
    lines = (Fields.of_row(row, names, "standbys") for row in rows)
    return tuple(
        Standby(
            line.text("address", 255),
            line.text("name", 255) or "",
            line.text("state", 50) or "",
            line.text("sync_state", 50) or "",
        )
        for line in lines
    )


def _checkpoint(row: Sequence[Any] | None) -> Checkpoint | None:
    if row is None:
        return None
    fields = Fields.of_row(row, ("lsn", "time", "next_xid"), "checkpoint")
    return Checkpoint(
        fields.required(fields.integer("lsn", *_LSN), "lsn"),
        fields.required(fields.number("time"), "time"),
        fields.text("next_xid", 100) or "",
    )
