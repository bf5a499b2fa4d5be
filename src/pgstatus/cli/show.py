"""``pg-status hosts`` and ``pg-status explain``: what a running instance knows, for people.

The exit status is for scripts: 0 there is a host to name, 3 there is none, 1 nobody could be asked
(78, as everywhere: the configuration that says whom to ask cannot be used).
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

from pgstatus.cli.remote import Answer, Instance
from pgstatus.core.snapshot import Host
from pgstatus.errors import StartError, UnreachableError

NOBODY = 3
_COLUMNS = {
    "Host": "left",
    "Role": "left",
    "State": "left",
    "Lag": "right",
    "Behind": "right",
    "LSN": "left",
    "TL": "right",
    "Checked": "right",
    "Words": "left",
}
_FIELDS = {
    "host", "port", "master", "role", "alive", "possible_dead", "lag_ms", "lag_bytes", "lsn",
    "timeline", "checked_at", "error", "reason", "in_sync",
}  # fmt: skip
_RED, _GREEN, _YELLOW = 31, 32, 33


def show_hosts(instance: Instance, watch: float | None, out: TextIO = sys.stdout) -> int:
    """Print the table; again every ``watch`` seconds, until Ctrl-C."""
    if watch is None:
        hosts = _hosts(instance)
        out.write(hosts_table(hosts, colour=_may_colour(out)))
        return 0 if any(host["master"] for host in hosts) else NOBODY
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            try:
                text = hosts_table(_hosts(instance), colour=_may_colour(out))
            except (UnreachableError, StartError) as error:  # it may come back
                text = f"{error}\n"
            # A terminal shows the newest table in the place of the last one, a pipe all of them.
            out.write(f"\033[H\033[J{text}" if _may_colour(out) else text)
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
    raise UnreachableError(f"what answers at {instance.url} is no pg-status")


def show_explanation(instance: Instance, question: str, out: TextIO = sys.stdout) -> int:
    """Print host by host why ``replica?lag_ms=50`` does or does not name it."""
    answer = instance.get(f"/explain/{quote(question.lstrip('/'), safe='/?&=:%')}")
    if answer.status == 404:
        raise StartError(
            f"{question!r} is no question: expected master, replica, sync_by_time … with limits, "
            "as in replica?lag_ms=50"
        )
    lines = _body(answer).splitlines()
    colour = _may_colour(out)
    out.writelines(
        _painted(line, _GREEN if line.startswith("+") else None, colour) + "\n" for line in lines
    )
    return 0 if any(line.startswith("+") for line in lines) else NOBODY


def _body(answer: Answer) -> str:
    if answer.is_good:
        return answer.body
    try:
        words = json.loads(answer.body)["error_text"]
    except (ValueError, KeyError, TypeError):
        words = answer.body.strip() or "no words"
    raise StartError(f"refused with {answer.status}: {words}")


def hosts_table(hosts: Sequence[Mapping[str, Any]], *, colour: bool = False) -> str:
    """The answer of ``/hosts`` as a table; ends with a line feed."""
    now = datetime.now(UTC)
    rows = [_row(host, now, colour) for host in hosts]
    table = tabulate(
        rows, list(_COLUMNS), "psql", colalign=tuple(_COLUMNS.values()), disable_numparse=True
    )
    return f"{table}\n"


def _row(host: Mapping[str, Any], now: datetime, colour: bool) -> list[str]:
    state, paint = _state(host)
    role = host["role"]
    if role == "master" and not host["master"]:
        role = "says master"
    return [
        str(Host(host["host"], host["port"])),
        _painted(role, _GREEN if host["master"] else None, colour),
        _painted(state, paint, colour),
        _or_unknown(host["lag_ms"], "{} ms"),
        _or_unknown(host["lag_bytes"], "{} B"),
        _or_unknown(host["lsn"], "{}"),
        _or_unknown(host["timeline"], "{}"),
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


def _age(moment: str | None, now: datetime) -> str:
    if moment is None:
        return "never"
    seconds = (now - datetime.fromisoformat(moment)).total_seconds()
    return f"{max(0.0, seconds):.1f} s ago"


def _or_unknown(value: object, form: str) -> str:
    return "?" if value is None else form.format(value)


def _painted(text: str, code: int | None, colour: bool) -> str:
    return f"\033[{code}m{text}\033[0m" if colour and code else text


def _may_colour(out: TextIO) -> bool:
    # https://no-color.org
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
