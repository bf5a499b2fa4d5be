"""The verdicts of ``pg-status check``, and the check of the configuration alone.

Without the libraries for people, because containers and units check their configuration, too.
"""

from collections.abc import Mapping, Sequence

from pgstatus.cli.state import unknown_cluster
from pgstatus.errors import ConfigError
from pgstatus.settings.cluster import Settings
from pgstatus.settings.load import Configuration

OK, WARN, FAILED = "OK", "WARNING", "FAILED"

Verdict = tuple[str, str]
"""A word and a sentence."""

USABLE: Verdict = (OK, "the configuration can be used")
UNUSABLE: Verdict = (FAILED, "the configuration cannot be used")

Chosen = tuple[Mapping[str, Settings], Mapping[str, Sequence[str]]]


def chosen(configuration: Configuration, cluster: str | None) -> Chosen:
    """The clusters to check, and those whose configuration cannot be used.

    StartError: the given cluster is unknown. ConfigError: its configuration cannot be used.
    """
    clusters, rejected = configuration.clusters, configuration.rejected
    if cluster is None:
        return clusters, rejected
    if cluster in rejected:
        raise ConfigError(rejected[cluster])
    if cluster not in clusters or not cluster:
        raise unknown_cluster(cluster, [*clusters, *rejected])
    return {cluster: clusters[cluster]}, {}


def worst(words: Sequence[str]) -> str:
    """The most severe one."""
    return next((word for word in (FAILED, WARN) if word in words), OK)


def summary(words: Sequence[tuple[str, str]]) -> Verdict:
    """Of several clusters, each with its name: the worst word, and which clusters it concerns."""
    if not words:
        return WARN, "no cluster is defined"
    are = "cluster is" if len(words) == 1 else "clusters are"
    text = f"{sum(word == OK for _, word in words)} of {len(words)} {are} OK"
    for severe in (FAILED, WARN):
        names = [name for name, word in words if word == severe]
        if names:
            text += f"; {severe}: {', '.join(names)}"
    return worst([word for _, word in words]), text


def entry(verdict: Verdict, cluster: str, **more: object) -> Mapping[str, object]:
    """The object of one of several clusters in the output of ``--json``."""
    return {"cluster": cluster, "verdict": verdict[0], "summary": verdict[1], **more}


def check_configuration(
    configuration: Configuration, cluster: str | None
) -> tuple[Verdict, Mapping[str, object]]:
    """The verdict, and what the output of ``--json`` contains in addition."""
    clusters, rejected = chosen(configuration, cluster)
    if cluster is not None or not all([*clusters, *rejected]):
        return USABLE, {}
    entries = [
        *(entry(USABLE, name) for name in clusters),
        *(entry(UNUSABLE, name, problems=list(why)) for name, why in rejected.items()),
    ]
    words = [*((name, OK) for name in clusters), *((name, FAILED) for name in rejected)]
    return summary(words), {"clusters": entries}
