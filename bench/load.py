"""Runs the load generators wrk and hey, and parses their output."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_MIX = Path(__file__).with_name("mix.lua")
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Load:
    """The result of one run of a generator; latencies in milliseconds."""

    requests: int
    per_second: float
    p50: float
    p99: float


def wrk(
    url: str,
    seconds: float,
    core: int,
    *,
    close: bool = False,
    mix: bool = False,
) -> Load:
    """Maximum load with wrk. ``mix``: the JSON mix of requests instead of the path of the URL."""
    command = ["taskset", "-c", str(core), "wrk", "-t1", "-c32", f"-d{seconds:g}s"]
    command += ["--latency", *(["-s", str(_MIX)] if mix else [])]
    command += ["-H", "Connection: close"] if close else []
    out = _run([*command, url])
    if refused := re.search(r"Non-2xx or 3xx responses: (\d+)", out):
        raise RuntimeError(f"{url}: {refused[1]} responses without success")
    return Load(
        int(_find(r"(\d+) requests in", out)),
        float(_find(r"Requests/sec:\s+([\d.]+)", out)),
        _ms(_find(r"50%\s+([\d.]+\w+)", out)),
        _ms(_find(r"99%\s+([\d.]+\w+)", out)),
    )


def hey(url: str, seconds: float, core: int, *, per_second: float | None = None) -> Load:
    """Load with hey on eight kept connections: a constant rate, or the maximum."""
    command = ["taskset", "-c", str(core), "hey", "-z", f"{seconds:g}s", "-c", "8"]
    command += ["-q", str(max(1, round(per_second / 8)))] if per_second else []
    out = _run([*command, url])
    return Load(
        int(_find(r"\[200\]\s+(\d+) responses", out)),
        float(_find(r"Requests/sec:\s+([\d.]+)", out)),
        1000 * float(_find(r"50%+ in ([\d.]+) secs", out)),
        1000 * float(_find(r"99%+ in ([\d.]+) secs", out)),
    )


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"the output of the generator does not contain {pattern!r}:\n{text}")
    return match[1]


def _ms(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s)", text)
    if match is None:
        raise RuntimeError(f"not a time: {text}")
    return float(match[1]) * _UNITS[match[2]]
