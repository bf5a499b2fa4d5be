"""``pg-status check``: the configuration, and one check of each host, as the daemon performs it; of
a relay, one document of each upstream.

For missing privileges, and limits on connections that are nearly exhausted, it prints the SQL that
helps. Exit status: 0 all hosts responded, 1 a host did not; an unusable configuration has status 78
(`main`).
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from pgstatus import clock
from pgstatus.cli.show import Output
from pgstatus.cli.table import BAD, GOOD, WARNING
from pgstatus.core.connections import Usage
from pgstatus.core.snapshot import Failure, HostStatus, Observation, Snapshot
from pgstatus.core.state import Look, State
from pgstatus.core.tracker import fold
from pgstatus.core.units import duration
from pgstatus.core.view import view
from pgstatus.errors import CheckError
from pgstatus.fleet.document import Document
from pgstatus.fleet.source import Source
from pgstatus.fleet.sources import first_documents, sources
from pgstatus.monitor.probe import Probe
from pgstatus.monitor.prober import outcome
from pgstatus.monitor.reader import Shortcoming
from pgstatus.settings.cluster import Settings
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
    """The result of the check of one host, or of one upstream."""

    host: str
    word: str
    """`OK`, `WARN` or `FAILED`."""
    text: str
    usages: Sequence[Usage]


def check_cluster(settings: Settings, output: Output) -> int:
    """Check all hosts, and the upstreams of a relay; print the results."""
    status = 0
    if settings.fleet is not None:
        status = check_sources(sources(settings.fleet, settings.cluster_name or ""), output)
    if settings.hosts:
        status = max(status, check_hosts(settings, output))
    return status


def check_sources(found: Sequence[Source], output: Output) -> int:
    """Receive one document of each watcher, and print what was received."""
    documents = asyncio.run(first_documents(found))
    verdicts = [
        Verdict(name, FAILED, document, ())
        if isinstance(document, str)
        else Verdict(name, OK if document.ready else WARN, _described(document), ())
        for name, document in documents.items()
    ]
    words = [verdict.word for verdict in verdicts]
    count = len(words) - words.count(FAILED)
    worst = FAILED if not count else WARN if set(words) != {OK} else OK
    summary = worst, f"{count} of {len(words)} upstreams deliver evidence"
    if output.is_json:
        upstreams = [{"upstream": v.host, "verdict": v.word, "text": v.text} for v in verdicts]
        output.write_json({"verdict": worst, "summary": summary[1], "upstreams": upstreams})
    else:
        output.write(Group(table(verdicts), Text(), line(summary)))
    return 1 if FAILED in words else 0


def _described(document: Document) -> str:
    hosts = ", ".join(dict.fromkeys(str(result.host) for result in document.results))
    state = "" if document.ready else "; not every host has been checked yet"
    return f"{document.name}, version {document.version}, checks {hosts}{state}"


def check_hosts(settings: Settings, output: Output) -> int:
    """Check all hosts concurrently and print the results."""
    results = asyncio.run(_check_all(settings.targets))
    snapshot = _snapshot(settings, results)
    verdicts = [
        _verdict(status, result) for status, result in zip(snapshot.hosts, results, strict=True)
    ]
    summary = _summary(verdicts, snapshot)
    missing: dict[Shortcoming, list[str]] = {}
    for status, result in zip(snapshot.hosts, results, strict=True):
        exhausted = [Shortcoming(str(one), one.remedy) for one in result.shortages if one.remedy]
        for shortcoming in (*result.shortcomings, *exhausted):
            missing.setdefault(shortcoming, []).append(str(status.host))
    if output.is_json:
        output.write_json(_report(summary, verdicts, snapshot, missing))
    else:
        output.write(Group(table(verdicts), *_remedies(missing), Text(), line(summary)))
    return 1 if any(verdict.word == FAILED for verdict in verdicts) else 0


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


def table(verdicts: Sequence[Verdict]) -> Table:
    """One line for each verdict."""
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


def line(summary: tuple[str, str]) -> Text:
    """The last line."""
    word, text = summary
    return Text.assemble((word, _STYLES[word]), f": {text}")


def _report(
    summary: tuple[str, str],
    verdicts: Sequence[Verdict],
    snapshot: Snapshot,
    missing: Mapping[Shortcoming, Sequence[str]],
) -> Mapping[str, object]:
    """The output of ``--json``."""
    return {
        "verdict": summary[0],
        "summary": summary[1],
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
