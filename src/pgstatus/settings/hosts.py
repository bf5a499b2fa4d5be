"""The list variables: hosts with their ports, and lists with one item per host."""

import ipaddress
import re
from collections.abc import Callable, Sequence

from pgstatus.errors import in_a_line
from pgstatus.settings.libpq import Params

_EXPECTED = "expected host, host:port, [v6]:port or a postgresql:// URI"

ParseUri = Callable[[str], Params]
"""ValueError, without secrets in its text, for an invalid URI."""


def split_list(text: str | None, delimiter: str) -> list[str]:
    """The items without surrounding white space; a list that is not set has none."""
    return [item.strip() for item in text.split(delimiter)] if text else []


def split_per_host(text: str | None, hosts: int, delimiter: str) -> list[str]:
    """The items of a list with one item per host. The list may end with a delimiter."""
    items = split_list(text, delimiter)
    return items[:-1] if items and not items[-1] and len(items) != hosts else items


def parse_hosts(
    entries: Sequence[str], ports: Sequence[str], default_port: int, parse_uri: ParseUri
) -> tuple[list[Params], list[str]]:
    """``(parameters, problems)``; ``host`` and ``port`` are always among the parameters.

    ``ports`` apply to entries without a port: one for all, or one each in order. If the list is
    too short or ends with empty items, its last port applies to the remaining entries.
    """
    given = len(ports)
    while given and not ports[given - 1]:
        given -= 1
    numbers, problems = _ports(ports[:given], len(entries))
    numbers = numbers or [default_port]
    found: list[Params] = []
    for index, entry in enumerate(entries):
        place = f"hosts, entry {index + 1}"
        if not entry:
            problems.append(f"{place} of {len(entries)}: empty; {_EXPECTED}")
            continue
        shown = f"{place}, {in_a_line(repr(entry))}" if _is_plain(entry) else place
        try:
            params = _entry(entry, numbers[min(index, len(numbers) - 1)], parse_uri)
        except ValueError as error:
            problems.append(f"{shown}: {error}")
            continue
        if any(_address(params) == _address(other) for other in found):
            problems.append(f"{shown}: the same host and port are listed twice")
        found.append(params)
    return found, problems


def _address(params: Params) -> tuple[str, str]:
    name = params["host"]
    return (name if name.startswith("/") else name.lower()), params["port"]


def _ports(texts: Sequence[str], hosts: int) -> tuple[list[int], list[str]]:
    ports: list[int] = []
    problems: list[str] = []
    for place, text in enumerate(texts, 1):
        try:
            ports.append(parse_port(text))
        except ValueError as error:
            problems.append(f"pg_port, entry {place}, {in_a_line(repr(text))}: {error}")
    if len(texts) > max(hosts, 1):
        problems.append(
            f"pg_port: {len(texts)} ports for {hosts} hosts; expected one for all or one for each"
        )
    return ports, problems


def parse_port(text: str) -> int:
    """ValueError for anything but a TCP port."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError("expected a port, a whole number from 1 to 65535")
    return int(text)


def _entry(entry: str, default_port: int, parse_uri: ParseUri) -> Params:
    if re.match(r"postgres(ql)?://", entry):
        params = parse_uri(entry)
        if not params.get("host") or "," in params["host"]:
            raise ValueError("expected a URI with one host; each host requires its own entry")
        _require_host(params["host"])
        return params | {"port": str(parse_port(params.get("port") or str(default_port)))}
    port: str | None
    if bracketed := re.fullmatch(r"\[(?P<name>[^\]]+)\](:(?P<port>.*))?", entry):
        name, port = _ipv6(bracketed["name"]), bracketed["port"]
    elif entry.count(":") > 1:
        _require_no_port(entry)
        name, port = _ipv6(entry), None
    else:
        name, colon, port = entry.partition(":")
        port = port if colon else None
    _require_host(name)
    return {"host": name, "port": str(parse_port(port) if port is not None else default_port)}


def _require_no_port(entry: str) -> None:
    """``::1:5432`` is an IPv6 address, but rarely meant as one."""
    address, _, last = entry.rpartition(":")
    if re.fullmatch(r"[0-9]{4}", last):
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            return
        raise ValueError(f"ambiguous: expected [{address}]:{last} or [{entry}]")


def _require_host(name: str) -> None:
    """A directory, an address or a DNS name."""
    if re.fullmatch(r"/[^\s@,]+", name):
        return
    if not re.fullmatch(r"[\w.:%\-]+", name):
        raise ValueError(_EXPECTED)
    if re.fullmatch(r"[0-9]+(\.[0-9]+){3}", name):
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            raise ValueError("invalid IPv4 address; " + _EXPECTED) from None
    elif ":" not in name:
        try:
            name.encode("idna")
        except UnicodeError:
            raise ValueError("invalid DNS name; " + _EXPECTED) from None


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError(_EXPECTED) from None


def _is_plain(entry: str) -> bool:
    """The entry cannot contain a password, so it may be shown."""
    return re.fullmatch(r"[A-Za-z0-9._\-\[\]/]+(:[A-Za-z0-9:\[\]]*)?", entry) is not None and (
        "//" not in entry
    )
