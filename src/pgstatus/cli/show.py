"""``pg-status hosts`` and ``pg-status explain``: the state of a running instance, for people.

Exit status: 0 a host is selected, 3 no host is, 1 the instance cannot be reached. An unusable
configuration has status 78 in all commands.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO
from urllib.parse import quote

from tabulate import tabulate

from pgstatus.cli.remote import Instance, Response
from pgstatus.core.snapshot import Host
from pgstatus.errors import StartError, UnreachableError

NO_HOST = 3
_COLUMNS = {
    "Host": "left",
    "Role": "left",
    "State": "left",
    "Lag": "right",
    "Lag bytes": "right",
    "LSN": "left",
    "TL": "right",
    "Checked": "right",
    "Details": "left",
}
_FIELDS = {
    "host", "port", "master", "role", "alive", "possible_dead", "lag_ms", "lag_bytes", "lsn",
    "timeline", "checked_at", "error", "reason", "in_sync",
}  # fmt: skip
_RED, _GREEN, _YELLOW = 31, 32, 33


def show_hosts(instance: Instance, watch: float | None, out: TextIO = sys.stdout) -> int:
    """Print the table; repeat it every ``watch`` seconds until Ctrl-C."""
    if watch is None:
        hosts = _hosts(instance)
        out.write(hosts_table(hosts, colour=_supports_colour(out)))
        return 0 if any(host["master"] for host in hosts) else NO_HOST
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            try:
                text = hosts_table(_hosts(instance), colour=_supports_colour(out))
            except (UnreachableError, StartError) as error:  # it may be temporary
                text = f"{error}\n"
            # On a terminal the new table replaces the previous one; a pipe receives all of them.
            out.write(f"\033[H\033[J{text}" if _supports_colour(out) else text)
            out.flush()
            time.sleep(watch)
    return 0


def _hosts(instance: Instance) -> Sequence[Mapping[str, Any]]:
    body = _body(instance.get("/hosts"))
    try:
        hosts: Sequence[Mapping[str, Any]] = json.loads(body)
        if all(host.keys() >= _FIELDS for host in hosts):
            return hosts
    except (ValueError, TypeError, AttributeError):
        pass
    raise UnreachableError(f"the server at {instance.url} is not pg-status")


def show_explanation(instance: Instance, question: str, out: TextIO = sys.stdout) -> int:
    """Print for each host why ``replica?lag_ms=50`` selects it, or does not."""
    response = instance.get(f"/explain/{quote(question.lstrip('/'), safe='/?&=:%')}")
    if response.status == 404:
        raise StartError(
            f"unknown endpoint {question!r}: expected master, replica, sync_by_time or another one "
            "that selects a host, with its limits, as in replica?lag_ms=50"
        )
    lines = _body(response).splitlines()
    colour = _supports_colour(out)
    out.writelines(
        _coloured(line, _GREEN if line.startswith("+") else None, colour) + "\n" for line in lines
    )
    return 0 if any(line.startswith("+") for line in lines) else NO_HOST


def _body(response: Response) -> str:
    if response.is_ok:
        return response.body
    try:
        text = json.loads(response.body)["error_text"]
    except (ValueError, KeyError, TypeError):
        text = response.body.strip() or "empty response"
    raise StartError(f"the request was refused with status {response.status}: {text}")


def hosts_table(hosts: Sequence[Mapping[str, Any]], *, colour: bool = False) -> str:
    """The response of ``/hosts`` as a table; ends with a line feed."""
    now = datetime.now(UTC)
    rows = [_row(host, now, colour) for host in hosts]
    table = tabulate(
        rows, list(_COLUMNS), "psql", colalign=tuple(_COLUMNS.values()), disable_numparse=True
    )
    return f"{table}\n"


def _row(host: Mapping[str, Any], now: datetime, colour: bool) -> list[str]:
    state, state_colour = _state(host)
    role = host["role"]
    if role == "master" and not host["master"]:
        role = "master (not used)"
    return [
        str(Host(host["host"], host["port"])),
        _coloured(role, _GREEN if host["master"] else None, colour),
        _coloured(state, state_colour, colour),
        "?" if host["lag_ms"] is None else duration(host["lag_ms"] / 1000),
        "?" if host["lag_bytes"] is None else str(host["lag_bytes"]),
        host["lsn"] or "?",
        "?" if host["timeline"] is None else str(host["timeline"]),
        _age(host["checked_at"], now),
        host["error"] or host["reason"] or "",
    ]


def _state(host: Mapping[str, Any]) -> tuple[str, int]:
    if not host["alive"]:
        return ("dead", _RED) if host["error"] else ("unknown", _YELLOW)
    if host["possible_dead"]:
        return "possibly dead", _YELLOW
    if not host["in_sync"]:
        return "late" if host["role"] == "replica" else "alive", _YELLOW
    return "in sync" if host["role"] == "replica" else "alive", _GREEN


def duration(seconds: float) -> str:
    """``12 ms``, ``3.7 s``, ``2 min 5 s``, ``1 h 2 min``."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def _age(moment: str | None, now: datetime) -> str:
    if moment is None:
        return "never"
    seconds = (now - datetime.fromisoformat(moment)).total_seconds()
    return f"{duration(max(0.0, seconds))} ago"


def _coloured(text: str, code: int | None, colour: bool) -> str:
    return f"\033[{code}m{text}\033[0m" if colour and code else text


def _supports_colour(out: TextIO) -> bool:
    # https://no-color.org
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
