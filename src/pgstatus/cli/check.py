"""``pg-status check``: the configuration, and one check of each host; a section for each of several
clusters.

Exit status: 0 all hosts responded; 1 a host or an upstream did not, or the configuration of one of
several clusters cannot be used; an unusable configuration has status 78 (`main`).
"""

import asyncio
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from pgstatus.cli.check_cluster import FAILED, OK, STYLES, WARN, Section, check_cluster, worst
from pgstatus.cli.show import Output
from pgstatus.cli.state import unknown_cluster
from pgstatus.errors import ConfigError
from pgstatus.settings.cluster import Settings
from pgstatus.settings.load import Configuration


def check(
    configuration: Configuration, cluster: str | None, config_only: bool, output: Output
) -> int:
    """Check all clusters or the given one, and print the results. StartError: it is unknown."""
    clusters, rejected = configuration.clusters, configuration.rejected
    if cluster is not None:
        if cluster in rejected:
            raise ConfigError(rejected[cluster])
        if cluster not in clusters or not cluster:
            raise unknown_cluster(cluster, [*clusters, *rejected])
        clusters, rejected = {cluster: clusters[cluster]}, {}
    if config_only:
        sections = [Section(name, OK, "the configuration can be used") for name in clusters]
    else:
        sections = asyncio.run(_check_all(list(clusters.values())))
    sections += [_unusable(name, problems) for name, problems in rejected.items()]
    content: Sequence[RenderableType]
    if cluster is not None or not all(section.name for section in sections):
        (section,) = sections
        word, text, content, report = section.word, section.text, section.content, section.report
    else:
        word, text = _summary(sections)
        report = {"clusters": [_entry(section) for section in sections]}
        content = [] if config_only else [part for one in sections for part in _titled(one)]
    if output.is_json:
        output.write_json({"verdict": word, "summary": text, **report})
    else:
        output.write(Group(*content, _line(word, text)))
    return 1 if any(section.has_failures for section in sections) else 0


async def _check_all(clusters: Sequence[Settings]) -> list[Section]:
    return await asyncio.gather(*map(check_cluster, clusters))


def _unusable(name: str, problems: Sequence[str]) -> Section:
    content = [*map(Text, problems)]
    report = {"problems": list(problems)}
    return Section(name, FAILED, "the configuration cannot be used", content, report, True)


def _titled(section: Section) -> Sequence[RenderableType]:
    line = _line(section.word, section.text)
    return [Text(section.name, "bold"), *section.content, line, Text()]


def _entry(section: Section) -> Mapping[str, object]:
    head = {"cluster": section.name, "verdict": section.word, "summary": section.text}
    return {**head, **section.report}


def _summary(sections: Sequence[Section]) -> tuple[str, str]:
    """The worst verdict, and which clusters it concerns."""
    names = {word: [one.name for one in sections if one.word == word] for word in (FAILED, WARN)}
    count = sum(one.word == OK for one in sections)
    text = f"{count} of {len(sections)} clusters are OK"
    for word, affected in names.items():
        if affected:
            text += f"; {word}: {', '.join(affected)}"
    return worst([one.word for one in sections]), text


def _line(word: str, text: str) -> Text:
    return Text.assemble((word, STYLES[word]), f": {text}")
