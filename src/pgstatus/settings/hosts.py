"""The list of hosts as an administrator writes it: names, ports and URIs into connection
parameters. What cannot be read is told in words, with secrets masked.
"""

import ipaddress
import re
from collections.abc import Sequence

_EXPECTED = "expected host, host:port, [v6]:port or a postgresql:// URI"

Params = dict[str, str]
"""libpq connection parameters; ``host`` and ``port`` are always among them."""


def split_list(text: str | None, delimiter: str) -> list[str]:
    """The items of a list variable, without the white space around them."""
    return [item for item in _items(text, delimiter) if item]


def split_positions(text: str | None, hosts: str | None, delimiter: str) -> list[str]:
    """The items of a list with one for each of ``hosts``, another list; a place may be empty.

    Where ``hosts`` has as many, empty ones among them, those places are left out of both.
    """
    if not text:
        return []
    items, beside = _items(text, delimiter), _items(hosts, delimiter)
    if hosts and len(items) == len(beside):
        return [item for item, host in zip(items, beside, strict=True) if host]
    return items if items[-1] else items[:-1]


def _items(text: str | None, delimiter: str) -> list[str]:
    return [item.strip() for item in (text or "").split(delimiter)]


def parse_hosts(entries: Sequence[str], ports: Sequence[str]) -> tuple[list[Params], list[str]]:
    """``(parameters, problems)``, the former in list order.

    ``ports`` are for the entries that name none: one for all, or one each in order; a list that
    is too short, or ends with empty places, repeats its last port.
    """
    given = len(ports)
    while given and not ports[given - 1]:
        given -= 1
    numbers, problems = _ports(ports[:given], len(entries))
    found: list[Params] = []
    for index, entry in enumerate(entries):
        shown = f"hosts={entry!r}" if _is_plain(entry) else f"hosts, entry {index + 1}"
        try:
            params = _entry(entry, numbers[min(index, len(numbers) - 1)] if numbers else 5432)
        except ValueError as error:
            problems.append(f"{shown}: {error}")
            continue
        if any((params["host"], params["port"]) == (p["host"], p["port"]) for p in found):
            problems.append(f"{shown}: the same host and port are listed twice")
        found.append(params)
    return found, problems


def _ports(texts: Sequence[str], hosts: int) -> tuple[list[int], list[str]]:
    ports: list[int] = []
    problems: list[str] = []
    for place, text in enumerate(texts, 1):
        try:
            ports.append(_port(text))
        except ValueError as error:
            problems.append(f"pg_port, entry {place}, {text!r}: {error}")
    if len(texts) > max(hosts, 1):
        problems.append(
            f"pg_port names {len(texts)} ports for {hosts} hosts: expected one for all or one each"
        )
    return ports, problems


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError("expected a port, a whole number from 1 to 65535")
    return int(text)


def _entry(entry: str, default_port: int) -> Params:
    if re.match(r"postgres(ql)?://", entry):
        # It brings psycopg, which whoever only reads a configuration can do without.
        from pgstatus.settings.uri import parse_uri  # noqa: PLC0415

        params = parse_uri(entry)
        if not params.get("host") or "," in params["host"]:
            raise ValueError("expected a URI with one host; give each host an entry of its own")
        return params | {"port": str(_port(params.get("port", str(default_port))))}
    port: str | None
    if bracketed := re.fullmatch(r"\[(?P<name>[^\]]+)\](:(?P<port>.*))?", entry):
        name, port = _ipv6(bracketed["name"]), bracketed["port"]
    elif entry.count(":") > 1:
        name, port = _ipv6(entry), None
    else:
        name, colon, port = entry.partition(":")
        port = port if colon else None
    if not re.fullmatch(r"/[^\s@,]+|[\w.:%\-]+", name):
        raise ValueError(_EXPECTED)
    return {"host": name, "port": str(_port(port) if port is not None else default_port)}


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError(_EXPECTED) from None


def _is_plain(entry: str) -> bool:
    """It can be shown: whatever else it is, it holds no part of a password."""
    return re.fullmatch(r"[A-Za-z0-9._\-\[\]/]+(:[A-Za-z0-9:\[\]]*)?", entry) is not None and (
        "//" not in entry
    )
