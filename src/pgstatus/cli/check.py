"""``pg-status check``: the configuration, and one check of each host; a section for each of several
clusters.

Exit status: 0 all hosts responded; 1 a host or an upstream did not, or the configuration of one of
several clusters cannot be used; an unusable configuration has status 78 (`main`).
"""

import asyncio
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from pgstatus.cli.check_cluster import STYLES, Section, check_cluster
from pgstatus.cli.show import Output
from pgstatus.cli.verdict import FAILED, UNUSABLE, chosen, entry, summary
from pgstatus.settings.cluster import Settings
from pgstatus.settings.load import Configuration


def check(configuration: Configuration, cluster: str | None, output: Output) -> int:
    """Check all clusters or the given one, and print the results. Errors as of `chosen`."""
    clusters, rejected = chosen(configuration, cluster)
    sections = asyncio.run(_check_all(list(clusters.values())))
    sections += [_unusable(name, problems) for name, problems in rejected.items()]
    content: Sequence[RenderableType]
    if cluster is not None or not all(section.name for section in sections):
        (section,) = sections
        word, text, content, report = section.word, section.text, section.content, section.report
    else:
        word, text = summary([(section.name, section.word) for section in sections])
        content = [part for section in sections for part in _titled(section)]
        entries = [entry((one.word, one.text), one.name, **one.report) for one in sections]
        report = {"clusters": entries}
    if output.is_json:
        output.write_json({"verdict": word, "summary": text, **report})
    else:
        output.write(Group(*content, _line(word, text)))
    return 1 if word == FAILED else 0


async def _check_all(clusters: Sequence[Settings]) -> list[Section]:
    return await asyncio.gather(*map(check_cluster, clusters))


def _unusable(name: str, problems: Sequence[str]) -> Section:
    report = {"problems": list(problems)}
    return Section(name, *UNUSABLE, [*map(Text, problems)], report)


def _titled(section: Section) -> Sequence[RenderableType]:
    line = _line(section.word, section.text)
    return [Text(section.name, "bold"), *section.content, line, Text()]


def _line(word: str, text: str) -> Text:
    return Text.assemble((word, STYLES[word]), f": {text}")
