"""The configuration: an environment in, one frozen `Configuration` out.

`load` is a function of its argument and of the files that the variables name. It neither reads nor
changes the environment of the process, and reports all problems together.
"""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pgstatus.errors import ConfigError
from pgstatus.settings import variables as v
from pgstatus.settings.cluster import Settings, read_cluster
from pgstatus.settings.clusters import Source, read_sources
from pgstatus.settings.envfile import has_password, read_env_file
from pgstatus.settings.fleet import is_relay
from pgstatus.settings.process import ProcessSettings, read_process
from pgstatus.settings.reader import Reader
from pgstatus.settings.targets import NO_LIBPQ, Libpq, read_libpq


@dataclass(frozen=True, slots=True)
class Configuration:
    """The whole configuration, validated."""

    process: ProcessSettings
    clusters: Mapping[str, Settings]
    """By name; the name of the only cluster may be empty."""
    rejected: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The clusters whose file cannot be used, and the reasons."""
    warnings: tuple[str, ...] = ()
    """The configuration is valid, but these points may be mistakes."""


def load(environ: Mapping[str, str]) -> Configuration:
    """The configuration of an environment and of its env file, whose variables take precedence.

    ConfigError contains all problems, and the warnings. The problems of a file of ``clusters_dir``
    concern that cluster only: they are in `Configuration.rejected`.
    """
    path = environ.get(v.ENV_FILE.full_name)
    file, problems = read_env_file(Path(path)) if path else ({}, [])
    reader = Reader({**environ, **file}, problems)
    if path:
        reader.warn_if_exposed(v.ENV_FILE, Path(path), is_secret=has_password(file))
    process, sources = read_process(reader), read_sources(reader)
    if directory := reader.read(v.CLUSTERS_DIR):
        reader.warn_if_exposed(v.CLUSTERS_DIR, directory, is_secret=False)
    clusters: dict[str, Settings] = {}
    rejected: dict[str, Sequence[str]] = {}
    files = {source.name for source in sources if source.file is not None}
    for source in sources:
        if source.problems and not source.variables:
            rejected[source.name] = [f"cluster {source.name}: {p}" for p in source.problems]
            continue
        own = reader if not source.name else Reader({**reader.environ, **source.variables}, [])
        settings = _read(own, source, environ, {**file, **source.variables})
        if source.name:
            found = [f"cluster {source.name}: {problem}" for problem in own.problems]
            reader.warnings += [f"cluster {source.name}: {warning}" for warning in own.warnings]
            if source.file is None:
                reader.problems += found
            elif found:
                rejected[source.name] = found
                continue
        clusters[source.name] = settings
    _check_state_files(reader, clusters, rejected, files)
    reader.finish(source.name for source in sources)
    if reader.problems:
        raise ConfigError(reader.problems, reader.warnings)
    return Configuration(process, clusters, rejected, tuple(reader.warnings))


def _read(
    reader: Reader, source: Source, environ: Mapping[str, str], file: Mapping[str, str]
) -> Settings:
    """The settings of one cluster; what is wrong with them is in the reader."""
    if not source.name:
        return read_cluster(reader, _libpq(reader, environ, file))
    reader.problems += source.problems
    if source.file is not None:
        is_secret = has_password(source.variables)
        reader.warn_if_exposed(v.CLUSTERS_DIR, source.file, is_secret=is_secret)
    settings = read_cluster(reader, _libpq(reader, environ, file), source.name)
    reader.finish_cluster(source.variables)
    for sentences in (reader.problems, reader.warnings):
        sentences[:] = [_as_written(sentence, reader, source) for sentence in sentences]
    state_file = settings.state_file
    if state_file is not None and v.STATE_FILE.full_name not in source.variables:
        # The name that the units of one instance per cluster use, whose files are read after a
        # migration to one instance.
        state_file = state_file.with_name(source.name + state_file.suffix)
    return replace(settings, state_file=state_file)


def _libpq(reader: Reader, environ: Mapping[str, str], file: Mapping[str, str]) -> Libpq:
    # A relay does not load libpq.
    return NO_LIBPQ if is_relay(reader) else read_libpq(reader, environ, file)


def _as_written(sentence: str, reader: Reader, source: Source) -> str:
    """The sentence with the names of the variables that have to be changed."""

    def written(match: re.Match[str]) -> str:
        name = match[0]
        is_common = name in reader.environ and name not in source.variables
        return name if is_common else source.written(name)

    return re.sub(rf"\b{v.PREFIX}[a-z0-9_]+", written, sentence)


def require_clusters(configuration: Configuration) -> None:
    """ConfigError if no cluster is left, because all files were rejected."""
    if configuration.rejected and not configuration.clusters:
        problems = [problem for found in configuration.rejected.values() for problem in found]
        raise ConfigError(problems, configuration.warnings)


def _check_state_files(
    reader: Reader,
    clusters: dict[str, Settings],
    rejected: dict[str, Sequence[str]],
    files: Collection[str],
) -> None:
    """Two clusters must not write the same file; ``files``: the clusters that a file defines."""
    used: dict[str, str] = {}
    for name, settings in list(clusters.items()):
        path = settings.state_file
        if path is None or (other := used.setdefault(os.path.realpath(path), name)) == name:
            continue
        problem = f"cluster {name}: {v.STATE_FILE.full_name}: {path} is the file of cluster {other}"
        if name in files:
            rejected[name] = [problem]
            del clusters[name]
        else:
            reader.problems.append(problem)
