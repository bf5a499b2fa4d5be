"""``pg-status check``: the configuration, and one check of each host, as the daemon performs it.

For missing privileges, and limits on connections that are nearly exhausted, it prints the SQL that
helps. Exit status: 0 all hosts responded, 1 a host did not, or the configuration of one of several
clusters cannot be used; an unusable configuration has status 78 (`main`).
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from pgstatus import clock
from pgstatus.cli.layout import BAD, GOOD, WARNING
from pgstatus.cli.show import Output
from pgstatus.cli.state import unknown_cluster
from pgstatus.core.connections import Usage
from pgstatus.core.snapshot import Failure, HostStatus, Observation, Snapshot
from pgstatus.core.state import Look, State
from pgstatus.core.tracker import fold
from pgstatus.core.units import duration
from pgstatus.core.view import view
from pgstatus.errors import CheckError, ConfigError
from pgstatus.monitor.probe import Probe
from pgstatus.monitor.prober import outcome
from pgstatus.monitor.reader import Shortcoming
from pgstatus.settings.cluster import Settings
from pgstatus.settings.load import Configuration
from pgstatus.settings.target import Target

OK, WARN, FAILED = "OK", "WARNING", "FAILED"
_STYLES = {OK: GOOD, WARN: WARNING, FAILED: BAD}


@dataclass(frozen=True, slots=True)
class Result:
    """What was found on one host."""

    outcome: Observation | Failure
    shortcomings: Sequence[Shortcoming]
    usages: Sequence[Usage]

    @property
    def shortages(self) -> Sequence[Usage]:
        return [usage for usage in self.usages if usage.is_nearly_exhausted]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of the check of one host."""

    host: str
    word: str
    """`OK`, `WARN` or `FAILED`."""
    text: str
    usages: Sequence[Usage]


@dataclass(frozen=True, slots=True)
class Section:
    """The result for one cluster."""

    name: str
    """Empty: it has none."""
    word: str
    text: str
    """A sentence."""
    content: Sequence[RenderableType] = ()
    report: Mapping[str, object] = field(default_factory=dict)
    """For ``--json``."""


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
        sections = [_usable(name) for name in clusters]
    else:
        sections = asyncio.run(_check_clusters(list(clusters.values())))
    sections += [_unusable(name, problems) for name, problems in rejected.items()]
    if cluster is not None or not all(section.name for section in sections):
        (section,) = sections
        summary = section.word, section.text
        report, content = section.report, section.content
    else:
        summary = _summary_of_all(sections)
        report = {"clusters": [{"cluster": one.name, **_head(one)} for one in sections]}
        content = [] if config_only else [part for one in sections for part in _section(one)]
    if output.is_json:
        output.write_json({"verdict": summary[0], "summary": summary[1], **report})
    else:
        output.write(Group(*content, _line(summary)))
    return 1 if summary[0] == FAILED else 0


async def _check_clusters(clusters: Sequence[Settings]) -> list[Section]:
    """Check all hosts concurrently."""
    found = await asyncio.gather(*(_check_all(settings.targets) for settings in clusters))
    return [_checked(*one) for one in zip(clusters, found, strict=True)]


def _checked(settings: Settings, results: Sequence[Result]) -> Section:
    snapshot = _snapshot(settings, results)
    verdicts = [
        _verdict(status, result) for status, result in zip(snapshot.hosts, results, strict=True)
    ]
    word, text = _summary(verdicts, snapshot)
    missing: dict[Shortcoming, list[str]] = {}
    for status, result in zip(snapshot.hosts, results, strict=True):
        exhausted = [Shortcoming(str(one), one.remedy) for one in result.shortages if one.remedy]
        for shortcoming in (*result.shortcomings, *exhausted):
            missing.setdefault(shortcoming, []).append(str(status.host))
    content: list[RenderableType] = [_table(verdicts), *_remedies(missing), Text()]
    return Section(settings.name, word, text, content, _report(verdicts, snapshot, missing))


def _usable(name: str) -> Section:
    return Section(name, OK, "the configuration can be used")


def _unusable(name: str, problems: Sequence[str]) -> Section:
    content = [Text(problem) for problem in problems]
    report = {"problems": list(problems)}
    return Section(name, FAILED, "the configuration cannot be used", content, report)


def _section(section: Section) -> Sequence[RenderableType]:
    return [
        Text(section.name, "bold"),
        *section.content,
        _line((section.word, section.text)),
        Text(),
    ]


def _head(section: Section) -> Mapping[str, object]:
    return {"verdict": section.word, "summary": section.text, **section.report}


def _summary_of_all(sections: Sequence[Section]) -> tuple[str, str]:
    """The worst verdict, and which clusters it concerns."""
    names = {
        word: [one.name for one in sections if one.word == word] for word in (FAILED, WARN, OK)
    }
    text = f"{len(names[OK])} of {len(sections)} clusters are OK"
    for word in (FAILED, WARN):
        if names[word]:
            text += f"; {word}: {', '.join(names[word])}"
    return next((word for word in (FAILED, WARN) if names[word]), OK), text


async def _check_all(targets: Sequence[Target]) -> list[Result]:
    return await asyncio.gather(*map(_check, targets))


async def _check(target: Target) -> Result:
    probe = Probe(target, lambda: None)
    try:
        found = await outcome(probe)
        return Result(found, probe.shortcomings, await _usages(probe, found))
    finally:
        probe.close()


async def _usages(probe: Probe, found: Observation | Failure) -> Sequence[Usage]:
    """The limits on connections, as far as they can be queried."""
    if isinstance(found, Observation):
        with suppress(CheckError):
            return await probe.usages()
    return ()


def _snapshot(settings: Settings, results: Sequence[Result]) -> Snapshot:
    """What the daemon would serve after these checks."""
    state = State.of(settings.hosts)
    # Masters first, because the lag of a replica is measured against the position of its master.
    found = [result.outcome for result in results]
    order = sorted(range(len(found)), key=lambda i: getattr(found[i], "in_recovery", True))
    for index in order:
        state = fold(state, index, found[index], clock.wall(), settings.rules, Look.RECHECK)
    return view(state, settings.rules)


def _verdict(status: HostStatus, result: Result) -> Verdict:
    host, found = str(status.host), result.outcome
    if isinstance(found, Failure):
        return Verdict(host, FAILED, f"{found.cause}: {found.message}", ())
    text = f"{status.role}, responded in {duration(found.finished - found.started)}"
    if status.timeline is not None:
        text += f", timeline {status.timeline}"
    for remark in (status.reason, *result.shortages):
        text += f"; {remark}" if remark else ""
    # Of a replica, one check does not show the lag.
    is_refused = status.excluded or (status.role == "master" and not status.master)
    is_limited = bool(result.shortcomings or result.shortages)
    return Verdict(host, WARN if is_refused or is_limited else OK, text, result.usages)


def _summary(verdicts: Sequence[Verdict], snapshot: Snapshot) -> tuple[str, str]:
    """The worst verdict, and a sentence."""
    words = [verdict.word for verdict in verdicts]
    count = len(words) - words.count(FAILED)
    master = (
        f"master {snapshot.master.host}" if snapshot.master else f"no master: {snapshot.no_master}"
    )
    worst = FAILED if FAILED in words else WARN if WARN in words or not snapshot.master else OK
    return worst, f"{count} of {len(words)} hosts responded, {master}"


def _table(verdicts: Sequence[Verdict]) -> Table:
    grid = Table.grid(
        Column(no_wrap=True), Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2, 0, 0)
    )
    for one in verdicts:
        grid.add_row(Text(one.word, _STYLES[one.word]), Text(one.host), Text(one.text))
    return grid


def _remedies(missing: Mapping[Shortcoming, Sequence[str]]) -> Sequence[Text]:
    lines: list[Text] = []
    # One privilege can remedy several shortcomings.
    for remedy in dict.fromkeys(shortcoming.remedy for shortcoming in missing):
        lines.append(Text())
        lines += [
            Text(f"{', '.join(hosts)}: {shortcoming.text}.")
            for shortcoming, hosts in missing.items()
            if shortcoming.remedy == remedy
        ]
        lines += [Text("As a superuser, on the master:"), Text(f"    {remedy}", "bold")]
    return lines


def _line(summary: tuple[str, str]) -> Text:
    word, text = summary
    return Text.assemble((word, _STYLES[word]), f": {text}")


def _report(
    verdicts: Sequence[Verdict],
    snapshot: Snapshot,
    missing: Mapping[Shortcoming, Sequence[str]],
) -> Mapping[str, object]:
    """The output of ``--json``."""
    return {
        "master": snapshot.master and str(snapshot.master.host),
        "hosts": [
            {
                "host": one.host,
                "verdict": one.word,
                "text": one.text,
                "connections": [
                    {"limit_of": usage.subject, "used": usage.used, "limit": usage.limit}
                    for usage in one.usages
                ],
            }
            for one in verdicts
        ],
        "remedies": list(dict.fromkeys(shortcoming.remedy for shortcoming in missing)),
    }
