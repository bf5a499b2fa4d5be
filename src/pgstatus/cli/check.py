"""``pg-status check``: the configuration, and one check of each host, as the daemon performs it.

For missing privileges it prints the SQL that grants them. Exit status: 0 all hosts responded, 1 a
host did not; an unusable configuration has status 78 (`main`).
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import TextIO

from pgstatus import clock
from pgstatus.cli.show import duration
from pgstatus.core.snapshot import Failure, HostStatus, Observation, Snapshot
from pgstatus.core.state import Look, State
from pgstatus.core.tracker import fold
from pgstatus.core.view import view
from pgstatus.monitor.probe import Probe
from pgstatus.monitor.prober import outcome
from pgstatus.monitor.reader import Shortcoming
from pgstatus.settings.load import Settings
from pgstatus.settings.target import Target

Result = tuple[Observation | Failure, Sequence[Shortcoming]]


def check_hosts(settings: Settings, out: TextIO = sys.stdout) -> int:
    """Check all hosts concurrently and print the results."""
    results = asyncio.run(_check_all(settings.targets))
    snapshot = _snapshot(settings, results)
    missing: dict[Shortcoming, list[str]] = {}
    for status, (result, shortcomings) in zip(snapshot.hosts, results, strict=True):
        out.write(f"{status.host}: {_details(status, result)}\n")
        for shortcoming in shortcomings:
            missing.setdefault(shortcoming, []).append(str(status.host))
    master = snapshot.master
    out.write(f"master: {master.host if master else f'none: {snapshot.no_master}'}\n")
    # One privilege can remedy several shortcomings.
    for remedy in dict.fromkeys(shortcoming.remedy for shortcoming in missing):
        for shortcoming, hosts in missing.items():
            if shortcoming.remedy == remedy:
                out.write(f"\n{', '.join(hosts)}: {shortcoming.text}.")
        out.write(f"\nAs a superuser, on the master:\n    {remedy}\n")
    return 1 if any(isinstance(result, Failure) for result, _ in results) else 0


async def _check_all(targets: Sequence[Target]) -> list[Result]:
    return await asyncio.gather(*map(_check, targets))


async def _check(target: Target) -> Result:
    probe = Probe(target, lambda: None)
    try:
        return await outcome(probe), probe.shortcomings
    finally:
        probe.close()


def _snapshot(settings: Settings, results: Sequence[Result]) -> Snapshot:
    """What the daemon would serve after these checks."""
    state = State.of(settings.hosts)
    # Masters first, because the lag of a replica is measured against the position of its master.
    order = sorted(range(len(results)), key=lambda i: getattr(results[i][0], "in_recovery", True))
    for index in order:
        state = fold(state, index, results[index][0], clock.wall(), settings.rules, Look.RECHECK)
    return view(state, settings.rules)


def _details(status: HostStatus, result: Observation | Failure) -> str:
    if isinstance(result, Failure):
        return f"FAILED ({result.cause}): {result.message}"
    text = f"ok, {status.role}, responded in {duration(result.finished - result.started)}"
    if status.timeline is not None:
        text += f", timeline {status.timeline}"
    return f"{text}; {status.reason}" if status.reason else text
