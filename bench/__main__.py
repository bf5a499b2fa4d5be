"""``make bench``: compares pg-status with other servers in one run of interleaved rounds.

Servers run on one core, load generators on another. CPU time is that of the server, as accounted by
the kernel's scheduler. Every figure is the median of the rounds. Writes ``docs/performance.md``.
"""

import argparse
import compileall
import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

import pgstatus
from bench.floor import floor_mib
from bench.load import Load, hey, wrk
from bench.place import a_place
from bench.processes import a_tenth_of_a_core, cpu_seconds, pin, pss_mib
from bench.report import Results, Row, write
from bench.servers import Bench, Server
from bench.slow import slow_clients
from pgstatus.demo.binaries import bundled

_SERVER_CORE, _CLIENT_CORE = 0, 1
_IDLE_SECONDS = 30.0
_STARTS = 5
_SLOW_CLIENTS = 500


def main() -> int:
    options = _parser().parse_args()
    missing = [tool for tool in ("wrk", "hey", "nginx", "taskset") if not shutil.which(tool)]
    if missing:
        sys.stderr.write(f"missing: {', '.join(missing)}; apt-get install wrk hey nginx-light\n")
        return 1
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.stderr.write(
            "two cores are required: one for the servers, one for the load generator\n"
        )
        return 1
    # As in every installation: compilation at the start costs time and 1.5 MiB of memory.
    for package in (sysconfig.get_path("purelib"), *pgstatus.__path__):
        compileall.compile_dir(package, quiet=2, workers=0)
    with ExitStack() as undo:
        # All processes that are started from here on, PostgreSQL first, run on this core.
        pin(cores[_CLIENT_CORE])
        place = undo.enter_context(a_place())
        directory, network, cluster = place.directory, place.network, place.cluster
        patroni_address = network.address(5)
        bench = Bench(
            network.address(1),
            ",".join(server.address for server in cluster.servers),
            cluster.primary.port,
            cores[_SERVER_CORE],
            directory,
        )
        undo.callback(bench.stop)
        results = _measure(
            bench,
            lambda: bench.patroni(bundled("18"), patroni_address),
            options.rounds,
            options.seconds,
            cores[_CLIENT_CORE],
        )
    write(results, options.output)
    return 0


def _measure(
    bench: Bench, patroni: Callable[[], Server], rounds: int, seconds: float, core: int
) -> Results:
    _log("start")
    starts = []
    for _ in range(_STARTS):
        began = time.monotonic()
        ours = bench.ours()
        starts.append(time.monotonic() - began)
        bench.stop()
    ours = bench.ours()
    _log("idle")
    before = cpu_seconds(ours.pids)
    time.sleep(_IDLE_SECONDS)
    idle = (cpu_seconds(ours.pids) - before) / _IDLE_SECONDS
    alone = pss_mib(ours.pids)
    nginx = bench.nginx()
    servers = [ours, nginx, bench.plain(), patroni(), *bench.others()]
    workloads: dict[str, Callable[[Server], Load]] = {
        "`/master`, kept connections": lambda s: wrk(s.url, seconds, core),
        "`/master`, one connection per request": lambda s: wrk(s.url, seconds, core, close=True),
        "`/hosts`, kept connections": lambda s: wrk(s.base + "/hosts", seconds, core),
        "JSON mix, kept connections": lambda s: wrk(s.base, seconds, core, mix=True),
    }
    results = Results(rounds, seconds, starts=median(starts), idle=idle, alone=alone)
    for number in range(rounds):
        for workload, run in workloads.items():
            for server in servers:
                if "/master" not in workload and not server.has_all_paths:
                    continue
                _log(f"round {number + 1} of {rounds}: {workload}: {server.name}")
                results.add(workload, server.name, _row(server, run))
    _measure_latency(results, servers, (ours, nginx), core)
    for server in servers:
        results.memory[server.name] = pss_mib(server.pids) if server.pid else None
    results.memory["gunicorn, falcon and psycopg, imported"] = floor_mib()
    for number in range(rounds):
        for server in servers:
            if server.pid:
                _log(f"round {number + 1} of {rounds}: a tenth of a core: {server.name}")
                with a_tenth_of_a_core(server.pids) as results.throttled_by:
                    row = _row(server, lambda s: wrk(s.url, 2 * seconds, core))
                results.add("`/master`, a tenth of a core", server.name, row)
    return results


def _measure_latency(
    results: Results, servers: Sequence[Server], loops: Sequence[Server], core: int
) -> None:
    """Latency at a constant rate below the maximum; of ``loops`` also with slow clients."""
    rounds, seconds = results.rounds, results.seconds
    for number in range(rounds):
        for server in servers:
            _log(f"round {number + 1} of {rounds}: half of the maximum: {server.name}")
            half = hey(server.url, seconds, core).per_second / 2
            row = _row(
                server, partial(_at_constant_rate, seconds=seconds, core=core, per_second=half)
            )
            results.add("`/master`, half of the maximum rate of hey", server.name, row)
    for number in range(rounds):
        for server in loops:
            _log(f"round {number + 1} of {rounds}: beside slow clients: {server.name}")
            with slow_clients(server.url, _SLOW_CLIENTS):
                row = _row(
                    server, partial(_at_constant_rate, seconds=seconds, core=core, per_second=500)
                )
            results.add(f"`/master`, 500/s beside {_SLOW_CLIENTS} slow clients", server.name, row)


def _at_constant_rate(server: Server, seconds: float, core: int, per_second: float) -> Load:
    return hey(server.url, seconds, core, per_second=per_second)


def _row(server: Server, run: Callable[[Server], Load]) -> Row:
    pids = server.pids
    before = cpu_seconds(pids)
    load = run(server)
    cpu = (cpu_seconds(pids) - before) / load.requests * 1e6 if pids else None
    return Row(load.per_second, cpu, load.p50, load.p99)


def _log(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="duration of each measurement")
    parser.add_argument("--output", type=Path, default=Path("docs/performance.md"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
