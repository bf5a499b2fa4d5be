"""The part of ``pg-status check`` about one cluster: one check of each host, as the daemon performs
it, or one document of each upstream of a relay.

For missing privileges, and limits on connections that are nearly exhausted, there is the SQL that
helps.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from rich.console import RenderableType
from rich.text import Text

from pgstatus import clock
from pgstatus.cli.layout import BAD, GOOD, WARNING, Explanations
from pgstatus.cli.verdict import FAILED, OK, WARN, worst
from pgstatus.core.connections import Usage
from pgstatus.core.snapshot import Failure, HostStatus, Observation, Snapshot
from pgstatus.core.state import Look, State
from pgstatus.core.tracker import fold
from pgstatus.core.units import duration
from pgstatus.core.view import view
from pgstatus.errors import CheckError
from pgstatus.fleet.document import Document
from pgstatus.fleet.sources import first_documents, sources
from pgstatus.monitor.probe import Probe
from pgstatus.monitor.prober import outcome
from pgstatus.monitor.reader import Shortcoming
from pgstatus.settings.cluster import Settings
from pgstatus.settings.fleet import Fleet
from pgstatus.settings.nats import Nats
from pgstatus.settings.target import Target

STYLES = {OK: GOOD, WARN: WARNING, FAILED: BAD}


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


_NATS = "NATS servers and watchers respond"


@dataclass(frozen=True, slots=True)
class Section:
    """The result for one cluster."""

    name: str
    """Empty: it has none."""
    word: str
    """The worst verdict."""
    text: str
    """A sentence."""
    content: Sequence[RenderableType] = ()
    report: Mapping[str, object] = field(default_factory=dict)
    """For ``--json``."""


async def check_cluster(settings: Settings) -> Section:
    """Check all hosts, and the upstreams of a relay, concurrently."""
    checks = []
    if settings.fleet is not None:
        checks.append(_check_sources(settings, settings.fleet))
    if settings.nats is not None:
        checks.append(_check_servers(settings))
    if settings.hosts:
        checks.append(_check_hosts(settings))
    sections = await asyncio.gather(*checks)
    return sections[0] if len(sections) == 1 else _combined(sections)


def _combined(sections: Sequence[Section]) -> Section:
    return Section(
        sections[0].name,
        worst([section.word for section in sections]),
        "; ".join(section.text for section in sections),
        [part for section in sections for part in section.content],
        {key: value for section in sections for key, value in section.report.items()},
    )


async def _check_sources(settings: Settings, fleet: Fleet) -> Section:
    """Receive one document of each watcher, and connect to each NATS server."""
    documents = first_documents(sources(fleet, settings.cluster_name or ""))
    found, servers = await asyncio.gather(documents, _servers(fleet.nats))
    what = "upstreams deliver evidence" if fleet.nats is None else _NATS
    return _section(settings.name, "upstream", {**servers, **found}, what)


async def _check_servers(settings: Settings) -> Section:
    """Connect to each NATS server, which this instance publishes to."""
    return _section(settings.name, "server", await _servers(settings.nats), _NATS)


def _section(
    cluster: str, kind: str, found: Mapping[str, Document | str | None], what: str
) -> Section:
    verdicts = [_of_source(name, received) for name, received in found.items()]
    words = [verdict.word for verdict in verdicts]
    count = len(words) - words.count(FAILED)
    entries = [{kind: v.host, "verdict": v.word, "text": v.text} for v in verdicts]
    text = f"{count} of {len(words)} {what}"
    content: list[RenderableType] = [_table(verdicts), Text()]
    return Section(cluster, worst(words), text, content, {f"{kind}s": entries})


async def _servers(nats: Nats | None) -> Mapping[str, str | None]:
    if nats is None:
        return {}
    from pgstatus.fleet.nats.check import servers  # noqa: PLC0415  # an extra

    return dict(await servers(nats))


def _of_source(name: str, received: Document | str | None) -> Verdict:
    if received is None:
        return Verdict(name, OK, "connected", ())
    if isinstance(received, str):
        return Verdict(name, FAILED, received, ())
    return Verdict(name, OK if received.ready else WARN, _described(received), ())


def _described(document: Document) -> str:
    hosts = ", ".join(dict.fromkeys(str(result.host) for result in document.results))
    state = "" if document.ready else "; not every host has been checked yet"
    return f"{document.name}, version {document.version}, checks {hosts}{state}"


async def _check_hosts(settings: Settings) -> Section:
    results = await asyncio.gather(*map(_check, settings.targets))
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
    report = _report(verdicts, snapshot, missing)
    return Section(settings.name, word, text, content, report)


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
    is_refused = (
        status.excluded
        or (status.role == "master" and not status.master)
        or (status.role == "replica" and not status.same_history)
    )
    is_limited = bool(result.shortcomings or result.shortages)
    return Verdict(host, WARN if is_refused or is_limited else OK, text, result.usages)


def _summary(verdicts: Sequence[Verdict], snapshot: Snapshot) -> tuple[str, str]:
    """The worst verdict, and a sentence."""
    words = [verdict.word for verdict in verdicts]
    responded = f"{len(words) - words.count(FAILED)} of {len(words)} hosts responded"
    master = (
        f"master {snapshot.master.host}" if snapshot.master else f"no master: {snapshot.no_master}"
    )
    if not snapshot.master:
        words.append(WARN)
    elif len(snapshot.claims) > 1:  # otherwise it is the reason why there is no master
        return worst(
            words
        ), f"{responded}, split brain: {' and '.join(snapshot.claims)} are masters, {master}"
    return worst(words), f"{responded}, {master}"


def _table(verdicts: Sequence[Verdict]) -> Explanations:
    return Explanations(
        [(Text(one.word, STYLES[one.word]), Text(one.host), Text(one.text)) for one in verdicts]
    )


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
