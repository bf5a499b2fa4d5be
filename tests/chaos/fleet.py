"""``python -m tests.chaos.fleet``: the campaign of ``make chaos`` with three watchers and relays.

While the events break the cluster, disturbances break the fleet. The verdict of every relay is
reported; exit status 1 if one of them failed.
"""

import argparse
import random
import sys
import time
from contextlib import ExitStack, nullcontext

from tests.chaos.campaign import Scene, a_scene, common_options, finish, report, run_events
from tests.chaos.cuts import Cuts, enter_namespace
from tests.chaos.disturbances import CONNECTED_AGAIN, DISTURBANCES, Disturber, Participants
from tests.chaos.events import EVENTS_OF_A_FLEET, smart_shutdown
from tests.chaos.health import Health
from tests.chaos.knowledge import Chronicle
from tests.chaos.members import Member
from tests.chaos.observer import Observer
from tests.chaos.report import Verdict, judge
from tests.chaos.truth import Truth
from tests.support.nats import PROGRAM, NatsCluster
from tests.support.running import answers
from tests.support.waiting import wait_until

_WATCHERS = 3
# Seconds after its start until a relay has received the evidence of a watcher.
_RELAY_STARTED = 3.0
# A watcher collects results that change nothing for a quarter of a second.
_COLLECTED = 0.25
# Seconds in addition to the interval for which a success outweighs failures of other watchers.
_OUTWEIGHS = 0.75
# Seconds without a watcher until the relay with `fallback_direct` knows the hosts: 6 until it
# begins, and those of a first round.
_DIRECT = 10.0
# All watchers compute at the same time. On a busy machine none of them could check the host for
# many seconds after the end of the event.
_LOGIN_ITERATIONS = 500_000
# Seconds until everything is correct again at the end.
_WHOLE = 20.0


def main() -> int:
    options = _options()
    enter_namespace([sys.executable, "-m", "tests.chaos.fleet", *sys.argv[1:]])
    with ExitStack() as undo:
        scene = undo.enter_context(a_scene(options.bindir))
        truth = Truth(scene.cluster, login_iterations=_LOGIN_ITERATIONS)
        undo.callback(truth.stop)
        nats = None
        if PROGRAM is not None:
            nats = undo.enter_context(NatsCluster(scene.directory / "nats", scene.network))
        fleet = _fleet(scene, nats, options)
        for member in fleet.members:
            undo.callback(member.end)
            member.start()
        for relay in fleet.all_relays:
            _await_correct(relay, truth)
        fleet.chronicle.began = time.time()
        health = Health(truth)
        health.start()
        undo.callback(health.stop)
        observers = {
            r.name: Observer(r.url, truth, pace=len(fleet.all_relays)) for r in fleet.all_relays
        }
        for observer in observers.values():
            observer.start()
            undo.callback(observer.stop)
        cuts = "with" if fleet.cuts.is_possible else "without"
        report(
            f"seed {options.seed}, {options.seconds} s, {cuts} cuts of the network, "
            f"{'without' if nats is None else 'with'} NATS"
        )
        _disturb(fleet, truth, options)
        until = time.time()
        for relay in fleet.all_relays:
            try:
                _await_correct(relay, truth)
            except AssertionError as error:
                relay.violations.append(f"{relay.name} at the end: {error}")
        failed = False
        for relay in fleet.all_relays:
            observer = observers[relay.name]
            verdict = _judge(fleet, truth, health, relay, observer, until, options)
            if verdict.problems:
                failed = True
                for answer in observer.answers:
                    report(f"{answer.at:.3f}: {answer.host or 'no master'}")
        if failed:
            _explain(fleet, truth, options)
    return int(failed)


def _judge(
    fleet: Participants,
    truth: Truth,
    health: Health,
    relay: Member,
    observer: Observer,
    until: float,
    options: argparse.Namespace,
) -> Verdict:
    """The verdict of one relay; it is reported."""
    sleep = options.sleep_ms / 1000
    is_direct = relay is fleet.relays[-1]
    knowledge = fleet.chronicle.knowledge(
        relay.name,
        until,
        relay.starts,
        outweighed=sleep + _OUTWEIGHS,
        direct_after=_DIRECT if is_direct else None,
    )
    verdict = judge(truth, health, observer, until, sleep + _COLLECTED, knowledge)
    for member in (relay, *fleet.watchers):
        verdict.violations += member.evaluate()
    seconds = sum(part.ended - part.began for part in knowledge.intervals)
    share = seconds / (until - fleet.chronicle.began)
    report(f"\n{relay.name}, judged for {share:.0%} of the time\n{verdict}")
    return verdict


def _fleet(scene: Scene, nats: NatsCluster | None, options: argparse.Namespace) -> Participants:
    chronicle = Chronicle([f"watcher{n}" for n in range(1, _WATCHERS + 1)], time.time())
    cuts = Cuts()
    variables = scene.variables(options.sleep_ms)

    def member(name: str, number: int, settle: float, variables: dict[str, object]) -> Member:
        address = scene.network.address(10 + number)
        log = scene.directory / f"{name}.log"
        group = cuts.group(number)
        return Member(name, address, variables, log, chronicle, settle=settle, group=group)

    through_nats: dict[str, object] = {}
    if nats is not None:
        through_nats = {"cluster_name": "chaos", "nats": nats.urls}
    watchers = []
    for number, name in enumerate(chronicle.watchers, 1):
        own = {"nats_name": name, "nats_replicas": 3} if nats is not None else {}
        watchers.append(member(name, number, CONNECTED_AGAIN, {**variables, **through_nats, **own}))
    upstreams: dict[str, object] = {"upstreams": ",".join(w.url for w in watchers)}
    relays = [
        member(f"relay{n}", _WATCHERS + n, _RELAY_STARTED, upstreams)
        for n in range(1, options.relays)
    ]
    direct = {**variables, **upstreams, "fallback_direct": "true"}
    relays.append(
        member("relay with fallback_direct", _WATCHERS + options.relays, _RELAY_STARTED, direct)
    )
    follower = None
    if nats is not None:
        number = _WATCHERS + options.relays + 1
        follower = member("relay over NATS", number, _RELAY_STARTED, through_nats)
    hosts = [server.address for server in scene.cluster.servers]
    fleet = Participants(watchers, relays, follower, nats, hosts, {}, cuts, chronicle)
    fleet.numbers.update({one.name: number for number, one in enumerate(fleet.members, 1)})
    return fleet


def _disturb(fleet: Participants, truth: Truth, options: argparse.Namespace) -> None:
    disturbers = [
        Disturber(fleet, random.Random(f"{options.seed}-{n}"), report, options.disturbance)
        for n in range(options.disturbers)
    ]

    for disturber in disturbers:
        disturber.start()
    try:
        run_events(
            truth,
            random.Random(options.seed),
            options,
            EVENTS_OF_A_FLEET,
            # It waits for all sessions: those of frozen watchers do not end.
            lambda event: fleet.undisturbed() if event is smart_shutdown else nullcontext(),
        )
    finally:
        for disturber in disturbers:
            disturber.stop()
    for disturber in disturbers:
        if disturber.failure is not None:
            raise disturber.failure


def _await_correct(relay: Member, truth: Truth) -> None:
    """It reports the master, and both replicas in sync."""

    def is_correct() -> bool:
        if not answers(relay.daemon.client, "/ready"):
            return False
        hosts = relay.daemon.json("/hosts")
        return relay.daemon.text("/master") == truth.master.address and all(
            host["sync_by_time"] and host["sync_by_bytes"] for host in hosts
        )

    wait_until(f"{relay.name} reports the cluster", is_correct, timeout=_WHOLE)


def _explain(fleet: Participants, truth: Truth, options: argparse.Namespace) -> None:
    for period in truth.periods:
        report(f"{period.began:.3f} {period.event}: {period.address}")
    for trouble in sorted(fleet.chronicle.troubles, key=lambda one: one.began):
        names = f"{trouble.relay or 'relays'}, {trouble.watcher or 'watchers'}"
        report(f"{trouble.began:.3f} to {trouble.ended:.3f}: {names}")
    if options.logs:
        for member in fleet.members:
            report(f"\n{member.name}\n{member.daemon.log}")
    repeat = f"make chaos-fleet SEED={options.seed} SECONDS={options.seconds}"
    report(f"\nrepeat the campaign with: {repeat}")


def _options() -> argparse.Namespace:
    parser = common_options("make chaos-fleet", __doc__, EVENTS_OF_A_FLEET)
    parser.add_argument("--relays", type=int, default=3, help="one of them with fallback_direct")
    parser.add_argument("--disturbers", type=int, default=2, help="disturbances at the same time")
    parser.add_argument("--logs", action="store_true", help="print all logs of a failed campaign")
    names = sorted({disturbance.__name__ for disturbance in DISTURBANCES})
    parser.add_argument(
        "--disturbance", action="append", default=[], choices=names, help="only this one"
    )
    return parser.parse_args()


if __name__ == "__main__":
    finish(main())
