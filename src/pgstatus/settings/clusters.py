"""The clusters of a configuration: their names, and the variables of each.

A variable of a cluster takes precedence over the variable of the same name that applies to all.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pgstatus.errors import ConfigError, in_a_line
from pgstatus.settings import variables as v
from pgstatus.settings.envfile import read_env_file
from pgstatus.settings.hosts import split_list
from pgstatus.settings.reader import Reader

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_EXPECTED = (
    "expected a name of at most 63 letters, digits, '-', '_' and '.' that begins and ends with a "
    "letter or digit and does not contain '__'"
)
_SUFFIX = ".env"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the variables of a cluster are."""

    name: str
    """Empty: the only cluster, without a name."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Its own, by their names without that of the cluster."""
    file: Path | None = None
    problems: tuple[str, ...] = ()
    """Why the variables cannot be used."""

    def written(self, variable: str) -> str:
        """The name of a variable as it is written in the place that defines the cluster."""
        is_own = self.file is None and bool(self.name)
        if not is_own:
            return variable
        return f"{v.PREFIX}{v.variable_key(self.name)}__{variable.removeprefix(v.PREFIX)}"


def read_sources(reader: Reader) -> list[Source]:
    """The clusters, in the order in which they are reported."""
    names = reader.read(v.CLUSTERS)
    directory = reader.read(v.CLUSTERS_DIR)
    if names is None and directory is None:
        return [Source("")]
    sources = [*_named(reader, names), *_of_directory(reader, directory)]
    if not sources:
        reader.warnings.append(f"no cluster is defined: {directory} contains no file NAME.env")
    seen: set[str] = set()
    for source in sources:
        if source.name in seen:
            reader.problems.append(f"the cluster {source.name} is defined twice")
        seen.add(source.name)
    return sources


def _named(reader: Reader, names: str | None) -> Iterator[Source]:
    keys: dict[str, str] = {}
    for name in split_list(names, reader.read(v.DELIMITER)):
        if not is_name(name):
            shown = in_a_line(repr(name))
            reader.problems.append(f"{v.CLUSTERS.full_name}: {shown}: {_EXPECTED}")
            continue
        other = keys.setdefault(v.variable_key(name), name)
        if other != name:
            reader.problems.append(
                f"{v.CLUSTERS.full_name}: the variables of {other} and {name} have the same names"
            )
        prefix = f"{v.PREFIX}{v.variable_key(name)}__"
        own = {
            v.PREFIX + variable.removeprefix(prefix): value
            for variable, value in reader.environ.items()
            if variable.startswith(prefix)
        }
        yield Source(name, own)


def _of_directory(reader: Reader, directory: Path | None) -> Iterator[Source]:
    if directory is None:
        return
    try:
        files = sorted(p for p in directory.iterdir() if p.name.endswith(_SUFFIX))
    except OSError as error:
        reader.problems.append(
            f"{v.CLUSTERS_DIR.full_name}: expected a directory ({directory}: {error.strerror})"
        )
        return
    for file in files:
        name = file.name.removesuffix(_SUFFIX)
        if name.startswith("."):  # of an editor or a package manager
            continue
        if not is_name(name):
            yield Source(name, file=file, problems=(f"{file}: {_EXPECTED}",))
            continue
        try:
            variables, problems = read_env_file(file)
        except ConfigError as error:
            variables, problems = {}, list(error.problems)
        yield Source(name, variables, file, tuple(problems))


def is_name(text: str) -> bool:
    """The text may be the name of a cluster."""
    return _NAME.fullmatch(text) is not None and "__" not in text
