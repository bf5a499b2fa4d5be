"""The clusters of a configuration: their names, and the variables of each.

A variable of a cluster takes precedence over the variable of the same name that applies to all.
"""

import re
from collections.abc import Collection, Iterator, Mapping
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
    named = list(_named(reader, names))
    seen = {source.name for source in named}
    sources = [*named, *_of_directory(reader, directory, seen)]
    if not sources and not reader.problems:
        reader.warnings.append(f"no cluster is defined: {directory} contains no file NAME.env")
    return sources


def _named(reader: Reader, text: str | None) -> Iterator[Source]:
    keys: dict[str, str] = {}
    names = split_list(text, reader.read(v.DELIMITER))
    for name in dict.fromkeys(names):
        if not is_name(name):
            shown = in_a_line(repr(name))
            reader.problems.append(f"{v.CLUSTERS.full_name}: {shown}: {_EXPECTED}")
            continue
        if names.count(name) > 1:
            reader.problems.append(f"the cluster {name} is defined twice")
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


def _of_directory(
    reader: Reader, directory: Path | None, named: Collection[str]
) -> Iterator[Source]:
    """The clusters of the files; those of ``named`` are defined elsewhere."""
    if directory is None:
        return
    try:
        files = sorted(p for p in directory.iterdir() if p.name.endswith(_SUFFIX))
    except OSError as error:
        reader.problems.append(
            f"{v.CLUSTERS_DIR.full_name}: expected a directory "
            f"({in_a_line(str(directory))}: {error.strerror})"
        )
        return
    for file in files:
        if file.name.startswith("."):  # of an editor or a package manager
            continue
        name = file.name.removesuffix(_SUFFIX)
        if not is_name(name):
            # The name may not be text in UTF-8.
            name, path = (str(part).encode(errors="backslashreplace").decode()
                          for part in (name, file))  # fmt: skip
            yield Source(name, file=file, problems=(f"{path}: {_EXPECTED}",))
            continue
        if name in named:
            problem = f"{file}: {v.CLUSTERS.full_name} defines a cluster of the same name"
            yield Source(name, file=file, problems=(problem,))
            continue
        try:
            variables, problems = read_env_file(file)
        except ConfigError as error:
            variables, problems = {}, list(error.problems)
        yield Source(name, variables, file, tuple(problems))


def is_name(text: str) -> bool:
    """The text may be the name of a cluster."""
    return _NAME.fullmatch(text) is not None and "__" not in text
