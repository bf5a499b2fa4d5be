"""What happens to watchers, relays and the network between them during a campaign."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.chaos.cuts import Cuts
from tests.chaos.knowledge import Chronicle
from tests.chaos.members import Member
from tests.support.nats import NatsCluster

# Seconds after the end of a cut until the watcher has checked the host again, and until the relay
# is connected to the watcher again: attempts to connect take 3 s and are made every 4.5 s.
_CHECKED_AGAIN = 4.0
CONNECTED_AGAIN = 8.0
# The same through NATS: the servers elect a leader, and clients try one server after the other.
_PUBLISHED_AGAIN = 12.0
# Longer than it takes until a relay checks the hosts itself.
_ALL_AWAY = 14.0, 18.0


@dataclass
class Participants:
    """All that takes part. ``numbers``: of each member, for cuts; ``follower``: the relay that
    follows ``nats``.
    """

    watchers: Sequence[Member]
    relays: Sequence[Member]
    """Those of the watchers."""
    follower: Member | None
    nats: NatsCluster | None
    hosts: Sequence[str]
    numbers: dict[str, int]
    cuts: Cuts
    chronicle: Chronicle

    @property
    def members(self) -> list[Member]:
        return [*self.watchers, *self.all_relays]

    @property
    def all_relays(self) -> list[Member]:
        return [*self.relays, *([self.follower] if self.follower else [])]

    @contextmanager
    def undisturbed(self, *members: Member) -> Iterator[None]:
        """The caller alone disturbs the members (default: all) within this block."""
        with ExitStack() as held:
            for member in members or self.members:
                held.enter_context(member.lock)
            yield


Disturbance = Callable[[Participants, random.Random], None]


def kill(fleet: Participants, chance: random.Random) -> None:
    """A process is killed, and started again later."""
    member = chance.choice(fleet.members)
    with fleet.undisturbed(member), member.trouble():
        member.kill()
        time.sleep(chance.uniform(0, 3))
        member.start()


def restart(fleet: Participants, chance: random.Random) -> None:
    """A process is stopped regularly and started again."""
    member = chance.choice(fleet.members)
    with fleet.undisturbed(member), member.trouble():
        member.terminate()
        member.start()


def freeze(fleet: Participants, chance: random.Random) -> None:
    """A process is frozen for half a second to ten seconds."""
    _freeze(fleet, chance.choice(fleet.members), chance)


def freeze_watcher(fleet: Participants, chance: random.Random) -> None:
    """The same, always a watcher: its last results remain."""
    _freeze(fleet, chance.choice(fleet.watchers), chance)


def reconfigure(fleet: Participants, chance: random.Random) -> None:
    """A watcher is started with another configuration, and later with the usual one."""
    member = chance.choice(fleet.watchers)
    changed: dict[str, object] = chance.choice(
        [
            {"hosts": ",".join(reversed(fleet.hosts))},
            {"sleep_ms": 300, "query_timeout_ms": 300},
            {"max_fails": 3, "sync_max_lag_ms": 50},
        ]
    )
    with fleet.undisturbed(member):
        with member.trouble():
            member.terminate()
            member.start(changed)
        time.sleep(chance.uniform(3, 10))
        with member.trouble():
            member.terminate()
            member.start({})


def subset(fleet: Participants, chance: random.Random) -> None:
    """A watcher is started with only two of the hosts for a while."""
    member = chance.choice(fleet.watchers)
    hosts = ",".join(chance.sample(fleet.hosts, 2))
    with (
        fleet.undisturbed(member),
        fleet.chronicle.trouble(None, member.name, CONNECTED_AGAIN, silences=False),
    ):
        with member.trouble():
            member.terminate()
            member.start({"hosts": hosts})
        time.sleep(chance.uniform(3, 10))
        with member.trouble():
            member.terminate()
            member.start({})


def cut_relay(fleet: Participants, chance: random.Random) -> None:
    """The network between a relay and a watcher is interrupted."""
    relay, watcher = chance.choice(fleet.relays), chance.choice(fleet.watchers)
    with (
        fleet.chronicle.trouble(relay.name, watcher.name, CONNECTED_AGAIN),
        fleet.cuts.between(fleet.numbers[relay.name], watcher.address),
    ):
        time.sleep(_seconds(chance))


def cut_host(fleet: Participants, chance: random.Random) -> None:
    """The network between a watcher and a host is interrupted."""
    _cut_hosts(fleet, chance, [chance.choice(fleet.hosts)])


def cut_all_hosts(fleet: Participants, chance: random.Random) -> None:
    """The network between a watcher and all hosts is interrupted."""
    _cut_hosts(fleet, chance, fleet.hosts)


def nats_server(fleet: Participants, chance: random.Random) -> None:
    """One of the NATS servers is killed or frozen, and continues later."""
    assert fleet.nats is not None
    assert fleet.follower is not None
    server = chance.choice(fleet.nats.servers)
    with (
        _nats_lock,
        fleet.chronicle.trouble(fleet.follower.name, None, _PUBLISHED_AGAIN, silences=False),
    ):
        if chance.random() < 0.5:
            server.kill()
            time.sleep(_seconds(chance))
            server.launch()
        else:
            server.freeze()
            time.sleep(_seconds(chance))
            server.thaw()


def cut_nats(fleet: Participants, chance: random.Random) -> None:
    """The network between NATS and a watcher, or the relay that follows it, is interrupted."""
    assert fleet.nats is not None
    assert fleet.follower is not None
    member = chance.choice([fleet.follower, *fleet.watchers])
    watcher = None if member is fleet.follower else member.name
    with (
        fleet.chronicle.trouble(fleet.follower.name, watcher, _PUBLISHED_AGAIN),
        fleet.cuts.between(
            fleet.numbers[member.name], *(server.address for server in fleet.nats.servers)
        ),
    ):
        time.sleep(_seconds(chance))


def all_away(fleet: Participants, chance: random.Random) -> None:
    """All watchers are killed or frozen, longer than a fallback waits."""
    with fleet.undisturbed(*fleet.watchers), ExitStack() as troubles:
        for watcher in fleet.watchers:
            troubles.enter_context(watcher.trouble())
        killed = [watcher for watcher in fleet.watchers if chance.random() < 0.5]
        frozen = [watcher for watcher in fleet.watchers if watcher not in killed]
        for watcher in fleet.watchers:
            watcher.kill() if watcher in killed else watcher.signal(signal.SIGSTOP)
        time.sleep(chance.uniform(*_ALL_AWAY))
        for watcher in frozen:
            watcher.signal(signal.SIGCONT)
        for watcher in killed:
            watcher.start()


_OFTEN = (
    kill, restart, freeze, freeze, freeze_watcher, reconfigure, subset,
    cut_relay, cut_relay, cut_host, cut_host, cut_all_hosts, nats_server, cut_nats,
)  # fmt: skip
# While all watchers are away, only relays that check the hosts themselves can be judged.
DISTURBANCES: tuple[Disturbance, ...] = (*_OFTEN, *_OFTEN, all_away)
_NEED_CUTS = (cut_relay, cut_host, cut_all_hosts, cut_nats)
_NEED_NATS = (nats_server, cut_nats)
# One server at a time: two of three must be there.
_nats_lock = threading.Lock()


class Disturber:
    """Disturbs the fleet in a thread until `stop`, in an order that ``chance`` determines."""

    def __init__(
        self,
        fleet: Participants,
        chance: random.Random,
        log: Callable[[str], None],
        names: list[str],
    ) -> None:
        self._fleet = fleet
        self._chance = chance
        self._log = log
        self._chosen = [
            d
            for d in DISTURBANCES
            if (not names or d.__name__ in names)
            and (fleet.cuts.is_possible or d not in _NEED_CUTS)
            and (fleet.nats is not None or d not in _NEED_NATS)
        ]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Wait until the present disturbance has ended: all processes run, nothing is cut."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                for disturbance in self._chance.sample(self._chosen, len(self._chosen)):
                    if self._stopping.wait(self._chance.uniform(0.5, 3)):
                        return
                    self._log(f"    {disturbance.__name__}: {disturbance.__doc__}")
                    disturbance(self._fleet, self._chance)
        except BaseException as error:
            self.failure = error


def _seconds(chance: random.Random) -> float:
    return chance.uniform(0.5, 10)


def _freeze(fleet: Participants, member: Member, chance: random.Random) -> None:
    with fleet.undisturbed(member), member.trouble():
        member.signal(signal.SIGSTOP)
        time.sleep(_seconds(chance))
        member.signal(signal.SIGCONT)


def _cut_hosts(fleet: Participants, chance: random.Random, hosts: Sequence[str]) -> None:
    watcher = chance.choice(fleet.watchers)
    with (
        fleet.chronicle.trouble(None, watcher.name, _CHECKED_AGAIN, silences=False),
        fleet.cuts.between(fleet.numbers[watcher.name], *hosts),
    ):
        time.sleep(_seconds(chance))
