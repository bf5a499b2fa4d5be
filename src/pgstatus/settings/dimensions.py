"""Data centres and regions: of each host, and of this instance."""

from collections.abc import Sequence
from dataclasses import dataclass

from pgstatus.settings.hosts import split_per_host
from pgstatus.settings.reader import Reader
from pgstatus.settings.variables import DELIMITER, Variable


@dataclass(frozen=True, slots=True)
class Dimension:
    """The data centre, or the region."""

    current: str | None
    """Of this instance; None: the dimension does not affect the selection."""
    hosts: Sequence[str | None]


def read_dimension(
    reader: Reader,
    hosts: int | None,
    per_host: Variable[str | None],
    current: Variable[str | None],
    current_env: Variable[str | None],
) -> Dimension:
    """A dimension affects the selection only if it is complete; otherwise there is a warning.

    ``hosts`` is their number; None: a relay, whose watchers know the hosts.
    """
    if hosts is None:
        return Dimension(_current(reader, current, current_env)[0], ())
    values = split_per_host(reader.read(per_host), hosts, reader.read(DELIMITER))
    mine, reason = _current(reader, current, current_env)
    if values and len(values) != hosts:
        reader.warnings.append(
            f"{per_host.full_name} is ignored: {len(values)} values for {hosts} hosts"
        )
    elif mine and values:
        return Dimension(mine, [value or None for value in values])
    elif mine:
        reader.warnings.append(f"{current.full_name} is ignored: {per_host.full_name} is not set")
    elif values:
        reader.warnings.append(f"{per_host.full_name} does not affect the selection: {reason}")
    elif reader.is_set(current_env):
        reader.warnings.append(f"{current_env.full_name} is ignored: {reason}")
    shown = values if len(values) == hosts else [""] * hosts
    return Dimension(None, [value or None for value in shown])


def _current(
    reader: Reader, current: Variable[str | None], current_env: Variable[str | None]
) -> tuple[str | None, str]:
    """The value of this instance, or why there is none."""
    if value := reader.read(current):
        return value, ""
    name = reader.read(current_env)
    if name is None:
        return None, f"{current.full_name} is not set"
    if name == current_env.full_name:
        return None, f"{name} contains its own name"
    return reader.environ.get(name) or None, f"{name} is not set"
