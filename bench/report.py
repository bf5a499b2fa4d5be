"""The results of a benchmark run, and the page that is generated from them."""

import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

_OURS = "pg-status"
_MARK = "<!-- written by `make bench` from here on -->\n"


@dataclass(frozen=True)
class Row:
    """A measurement of one server: latencies in milliseconds, CPU in microseconds per request."""

    per_second: float
    cpu: float | None
    p50: float
    p99: float


@dataclass
class Results:
    """The results of one run."""

    rounds: int
    seconds: float
    starts: float
    idle: float
    alone: float
    """MiB before the other servers start, which share the interpreter and libraries with it."""
    rows: dict[str, dict[str, list[Row]]] = field(default_factory=dict)
    memory: dict[str, float | None] = field(default_factory=dict)
    throttled_by: str = ""

    def add(self, workload: str, server: str, row: Row) -> None:
        self.rows.setdefault(workload, {}).setdefault(server, []).append(row)

    def of(self, workload: str, server: str) -> Row:
        """The medians of the rounds."""
        rows = self.rows[workload][server]
        cpus = [row.cpu for row in rows if row.cpu is not None]
        return Row(
            median(row.per_second for row in rows),
            median(cpus) if cpus else None,
            median(row.p50 for row in rows),
            median(row.p99 for row in rows),
        )


def write(results: Results, path: Path) -> None:
    """Replace the generated part of the page, below the mark."""
    text = path.read_text() if path.exists() else "# Performance\n\n"
    path.write_text(text.partition(_MARK)[0] + _MARK + "\n" + "\n".join(_page(results)))


def _page(results: Results) -> list[str]:
    lines = [
        f"""\
{datetime.now(UTC):%Y-%m-%d}, {_machine()}. {_versions()}.

Medians of {results.rounds} interleaved rounds, {results.seconds:g} s each. wrk uses one thread and
32 connections, hey 8 connections. The servers run on one core, the load generators and the
monitored PostgreSQL hosts on another. Load average over the last five minutes of the run:
{os.getloadavg()[1]:.1f}; the CPU time of a measurement varied by ±{_noise(results):.0%} between
rounds. In parentheses: relative to pg-status.
"""
    ]
    for workload in results.rows:
        lines += [
            f"### {workload}",
            "",
            "| server | requests/s | CPU µs/request | p50 ms | p99 ms |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        ours = results.of(workload, _OURS)
        for server in results.rows[workload]:
            row = results.of(workload, server)
            lines.append(
                f"| {server} | {_times(row.per_second, ours.per_second, '{:,.0f}')} "
                f"| {_times(row.cpu, ours.cpu, '{:.1f}')} | {row.p50:.2f} | {row.p99:.2f} |"
            )
        lines.append("")
    if results.throttled_by:
        lines += [f"The CPU limit was enforced by {results.throttled_by}.", ""]
    lines += ["### Memory after the load, all processes (PSS)", "", "| server | MiB |"]
    lines += ["| --- | ---: |"]
    lines += [
        f"| {server} | {_times(size, results.memory[_OURS], '{:.1f}')} |"
        for server, size in results.memory.items()
    ]
    return [
        *lines,
        "",
        "### pg-status without load",
        "",
        f"""\
Three hosts, 1 s checks: {results.idle:.2%} of a core. Time from start to the first correct
`/master`: {results.starts:.2f} s. Memory (PSS) before the first request, without other processes
that share the interpreter and the libraries: {results.alone:.1f} MiB.
""",
    ]


def _times(value: float | None, ours: float | None, form: str) -> str:
    if value is None:
        return "-"
    ratio = f" ({value / ours:.2f}x)" if ours and value != ours else ""
    return form.format(value) + ratio


def _noise(results: Results) -> float:
    """Half the range between rounds relative to its median: the median of all measurements."""
    ranges = []
    for servers in results.rows.values():
        for rows in servers.values():
            cpus = [row.cpu for row in rows if row.cpu is not None]
            if cpus:
                ranges.append((max(cpus) - min(cpus)) / 2 / median(cpus))
    return median(ranges)


def _machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release().partition('-')[0]}"


def _versions() -> str:
    nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True)
    parts = [
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in ("gunicorn", "falcon", "psycopg")),
        "nginx " + nginx.stderr.strip().rpartition("/")[2],
    ]
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    parts.append(" ".join(wrk.stdout.split()[:2]))
    return ", ".join(parts)
