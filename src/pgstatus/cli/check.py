"""``pg-status check``: the configuration, and every host asked once, as the daemon would.

What a host's role may not read is told with the SQL that grants it. The exit status is 0 when every
host answered, 1 when one did not; a configuration that cannot be used is 78 (`cli`).
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import TextIO

from pgstatus import clock
from pgstatus.core.snapshot import Failure, HostStatus, Observation, Snapshot
from pgstatus.core.state import Look, State
from pgstatus.core.tracker import fold
from pgstatus.core.view import view
from pgstatus.monitor.monitor import outcome
from pgstatus.monitor.probe import Probe, Shortcoming
from pgstatus.settings.load import Settings
from pgstatus.settings.target import Target

Result = tuple[Observation | Failure, Sequence[Shortcoming]]


def check_hosts(settings: Settings, out: TextIO = sys.stdout) -> int:
    """Ask all hosts at once and print what came of it."""
    results = asyncio.run(_ask_all(settings.targets))
    snapshot = _snapshot(settings, results)
    missing: dict[Shortcoming, list[str]] = {}
    for status, (result, shortcomings) in zip(snapshot.hosts, results, strict=True):
        out.write(f"{status.host}: {_words(status, result)}\n")
        for shortcoming in shortcomings:
            missing.setdefault(shortcoming, []).append(str(status.host))
    master = snapshot.master
    out.write(f"master: {master.host if master else f'none: {snapshot.no_master}'}\n")
    for shortcoming, hosts in missing.items():
        out.write(f"\n{', '.join(hosts)}: {shortcoming.text}. As a superuser, on the master:\n")
        out.write(f"    {shortcoming.remedy}\n")
    return 1 if any(isinstance(result, Failure) for result, _ in results) else 0


async def _ask_all(targets: Sequence[Target]) -> list[Result]:
    return await asyncio.gather(*map(_ask, targets))


async def _ask(target: Target) -> Result:
    probe = Probe(target, lambda: None)
    try:
        return await outcome(probe), probe.shortcomings
    finally:
        probe.close()


def _snapshot(settings: Settings, results: Sequence[Result]) -> Snapshot:
    """What the daemon would serve after this round."""
    state = State.of(settings.hosts)
    # Masters first: a replica's lag is measured against what is known of its master.
    order = sorted(range(len(results)), key=lambda i: getattr(results[i][0], "in_recovery", True))
    for index in order:
        state = fold(state, index, results[index][0], clock.wall(), settings.rules, Look.RECHECK)
    return view(state, settings.rules)


def _words(status: HostStatus, result: Observation | Failure) -> str:
    if isinstance(result, Failure):
        return f"FAILED ({result.cause}): {result.message}"
    words = f"ok, {status.role}, answered in {1000 * (result.finished - result.started):.0f} ms"
    if status.timeline is not None:
        words += f", timeline {status.timeline}"
    return f"{words}; {status.reason}" if status.reason else words
