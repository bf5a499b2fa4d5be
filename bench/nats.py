"""Relays that follow NATS: ``python -m bench.nats``. The figures are those of docs/nats.md.

Three nats-servers, two watchers of a real cluster, and a relay, all on this machine. The age of
evidence is the time since the end of the most recent check that the relay reports.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

from tests.support.daemon import Daemon
from tests.support.nats import NatsCluster, NatsServer
from tests.support.waiting import wait_until

from bench.fleet import failover, memory
from bench.place import Place, a_place

# Seconds between two events, and for each of them.
_PAUSE, _EVENT = 3.0, 8.0
_SLEEP_MS = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--failovers", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2, help="of each event, on each server")
    options = parser.parse_args()
    with a_place() as place, ExitStack() as undo:
        servers = undo.enter_context(NatsCluster(place.directory / "nats", place.network))
        variables: dict[str, object] = {
            "nats": servers.urls,
            "nats_replicas": 3,
            "sleep_ms": _SLEEP_MS,
            "max_staleness_ms": 10_000,
        }
        watchers = [undo.enter_context(_watcher(place, n, variables)) for n in range(2)]
        relay = undo.enter_context(_daemon(place, 21, variables))
        wait_until("the master", lambda: relay.text("/master") == place.cluster.primary.address)
        time.sleep(_PAUSE)
        _write("memory of a relay", memory(relay))
        delays = [failover(place.cluster, watchers, relay)[0] for _ in range(options.failovers)]
        median, worst = statistics.median(delays), max(delays)
        what = f"delay from the first watcher to the relay, {len(delays)} failovers"
        _write(what, f"median {median:.1f} ms, worst {worst:.1f} ms")
        _write("age of evidence while nothing happens", f"up to {_oldest(relay):.1f} s")
        for what, begin, end in (
            ("killed", NatsServer.kill, NatsServer.launch),
            ("frozen", NatsServer.freeze, NatsServer.thaw),
        ):
            ages = []
            for server in options.rounds * tuple(servers.servers):
                ages.append(_during(relay, server, begin, end))
                servers.wait_until_ready()
                time.sleep(_PAUSE)
            _write(f"the same, a server is {what}, {len(ages)} times", f"up to {max(ages):.1f} s")
    return 0


def _write(what: str, figure: str) -> None:
    sys.stdout.write(f"{what}: {figure}\n")
    sys.stdout.flush()


@contextmanager
def _watcher(place: Place, number: int, variables: dict[str, object]) -> Iterator[Daemon]:
    hosts = ",".join(server.address for server in place.cluster.servers)
    more = {"hosts": hosts, "pg_port": place.cluster.primary.port, "nats_name": f"w{number}"}
    with _daemon(place, 11 + number, {**variables, **more}) as daemon:
        yield daemon


@contextmanager
def _daemon(place: Place, last: int, variables: dict[str, object]) -> Iterator[Daemon]:
    variables = {"cluster_name": "bench", **variables}
    log = place.directory / f"nats{last}.log"
    with Daemon(log, variables, address=place.network.address(last)) as daemon:
        yield daemon


def _during(
    relay: Daemon,
    server: NatsServer,
    begin: Callable[[NatsServer], None],
    end: Callable[[NatsServer], None],
) -> float:
    begin(server)
    try:
        return _oldest(relay)
    finally:
        end(server)


def _oldest(relay: Daemon) -> float:
    """The largest age of the most recent evidence during an event, seconds."""
    oldest, deadline = 0.0, time.monotonic() + _EVENT
    while time.monotonic() < deadline:
        checked = [host["checked_at"] for host in relay.json("/hosts")]
        newest = max(datetime.fromisoformat(at) for at in checked if at is not None)
        oldest = max(oldest, (datetime.now(UTC) - newest).total_seconds())
        time.sleep(0.02)
    return oldest


if __name__ == "__main__":
    sys.exit(main())
