"""A state machine that drives the simulated cluster and the rules, and compares them.

The rules know the cluster through checks only. Where a truth cannot be known from any check (a
server that was restored and has not been checked since), nothing is required of them: the promises
are verified while every server has been checked since the last change of its data directory.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pgstatus.core.changes import events
from pgstatus.core.selection import Fallback, Kind, Place, Question, Thresholds, choose
from pgstatus.core.snapshot import Failure, Host, HostStatus, Observation, Snapshot
from pgstatus.core.state import Look, Rules, State
from pgstatus.core.tracker import expire, fold
from pgstatus.core.view import view
from tests.model.cluster import Cluster, Log, Server, Write
from tests.support.world import NOON

NAMES = "abcd"
RULES = Rules(sleep=1.0, max_fails=3, max_staleness=0)
LIMITS = Thresholds()
_EPSILON = 0.01
_READS = [LIMITS.question(kind, fallback=Fallback.NONE) for kind in Kind if kind is not Kind.MASTER]
_READS.append(LIMITS.question(Kind.REPLICA, lag_ms=300, fallback=Fallback.NONE))

names = st.sampled_from(NAMES)
orders = st.permutations(NAMES)


class Machine(RuleBasedStateMachine):
    """See the module. ``started`` counts the sequences, for `mutations`."""

    started = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).started += 1
        self.cluster = Cluster.of(NAMES)
        self.at = {name: name for name in NAMES}
        """The server that a configured name leads to."""
        self.state = State.of([Host(name, 5432) for name in NAMES])
        self.snapshot = view(self.state, RULES)
        self.reported: str | None = None
        self.client_writes: list[tuple[Write, int]] = []
        """The last writes on the reported master, each with its timeline."""
        self.changed: dict[str, int] = {}
        """Names whose server has changed, and how many checks it takes to know this."""
        self.logs: dict[tuple[str, datetime], Log] = {}
        """What a server had replayed at a check."""
        self.last: dict[str, tuple[float, Log]] = {}
        """The last successful check of each name: its start, and what the server had replayed."""
        self.checks: dict[str, Observation | Failure] = {}
        self.first_failures: dict[str, tuple[Failure, Snapshot]] = {}
        """The first failed check of a host after a successful one, and what was served before."""
        self.shown: dict[str, int] = {}
        """The newest timeline that each server has shown with its present identifier."""
        self.moved = False

    # What happens to the cluster

    @initialize(login_only=st.booleans(), no_control=st.booleans(), foreign=st.booleans())
    def begin(self, login_only: bool, no_control: bool, foreign: bool) -> None:
        for server in self.cluster.servers.values():
            server.login_only = login_only
            server.no_control_functions = login_only and no_control
        if foreign and not (login_only and no_control):
            self.cluster.upgrade(self.server("d"), 9)
        for name in NAMES:
            self.cluster.write(self.server("a"))
            self.cluster.pass_time(0.1)
            self._check(name)

    def server(self, name: str) -> Server:
        return self.cluster.servers[self.at[name]]

    def _touch(self, server: Server) -> None:
        for name in NAMES:
            if self.at[name] == server.name:
                self.changed[name] = max(1, self.changed.get(name, 0))

    def _run(self, seconds: float, busy: bool) -> None:
        """Time passes; applications write to every writable server (``busy``)."""
        for _ in range(3):
            if busy:
                for server in self.cluster.servers.values():
                    if server.is_writable and self._may_write(server):
                        self.cluster.write(server)
            self.cluster.pass_time(seconds / 3)

    def _may_write(self, server: Server) -> bool:
        """A restored server must be checked before its new writes hide that it was restored."""
        return not any(self.at[name] == server.name for name in self.changed)

    @rule(seconds=st.floats(0.05, 2), busy=st.booleans())
    def time_passes(self, seconds: float, busy: bool) -> None:
        self._run(seconds, busy)

    @rule()
    def client_writes_to_the_reported_master(self) -> None:
        master = self.snapshot.master
        if master is None:
            return
        server = self.server(master.host.name)
        if server.is_writable and self._may_write(server):
            write = self.cluster.write(server)
            self.client_writes = [*self.client_writes[-3:], (write, server.timeline)]

    @rule(name=names, power=st.booleans(), order=orders)
    def crash(self, name: str, power: bool, order: list[str]) -> None:
        """The process ends; with ``power`` the machine is off, and nothing refuses connections.

        The monitor notices the loss of its connection, and checks all hosts.
        """
        server = self.server(name)
        self.cluster.stop(server)
        server.hidden = server.hidden or power
        self._round(order)

    @rule(name=names)
    def smart_shutdown(self, name: str) -> None:
        self.server(name).shutting_down = self.server(name).running

    @rule(name=names)
    def start(self, name: str) -> None:
        server = self.server(name)
        server.hidden = False
        if not server.running:
            # It may have writes that no standby has received, and that counted as lost.
            self._touch(server)
        self.cluster.start(server)

    @rule(name=names, hidden=st.booleans())
    def cut_network(self, name: str, hidden: bool) -> None:
        self.server(name).hidden = hidden

    @rule(name=names, stalled=st.booleans())
    def cut_replication(self, name: str, stalled: bool) -> None:
        self.server(name).stalled = stalled

    @rule(name=names, paused=st.booleans())
    def pause_replay(self, name: str, paused: bool) -> None:
        self.server(name).paused = paused

    @rule(name=names)
    def checkpoint(self, name: str) -> None:
        server = self.server(name)
        server.control_timeline = server.timeline

    @rule(name=names, new_timeline=st.sampled_from([True, True, True, False]))
    def promote(self, name: str, new_timeline: bool) -> None:
        """Without a new timeline: it is restarted as writable."""
        server = self.server(name)
        if not server.primary and server.running:
            self.cluster.promote(server, new_timeline=new_timeline)
            self._touch(server)

    @rule(name=names, other=names, third=names)
    def promote_two(self, name: str, other: str, third: str) -> None:
        """At the same moment; ``third`` follows the second one."""
        self.promote(name, True)
        self.promote(other, True)
        if not self.server(third).primary:
            self.follow(third, other)

    @rule(name=names, upstream=names)
    def follow(self, name: str, upstream: str) -> None:
        """A standby is connected to another upstream."""
        server = self.server(name)
        former = self.cluster.servers.get(server.upstream or "")
        if former is not None and former.shutting_down:
            # A server that reports a shutdown is taken to have ended when its standbys lose their
            # connection. No check shows that the connection ended for another reason.
            return
        if not server.primary and name != upstream:
            server.upstream = self.at[upstream]
            server.connected = False
            self._touch(server)
            self.cluster.pass_time(0)

    @rule(name=names, upstream=names)
    def demote(self, name: str, upstream: str) -> None:
        server = self.server(name)
        if name in self.changed:
            return  # a primary that was never checked as such cannot be known
        if server.primary and server.running and self.at[name] != self.at[upstream]:
            self.cluster.demote(server, self.at[upstream])
            self._touch(server)
            self.cluster.pass_time(0)

    @rule(name=names, source=names)
    def rebuild(self, name: str, source: str) -> None:
        server, its_source = self.server(name), self.server(source)
        # Without the control functions nothing shows that it belongs to another cluster now.
        is_visible = not server.no_control_functions or server.identifier == its_source.identifier
        if its_source.is_writable and server is not its_source and is_visible:
            self.cluster.rebuild(server, its_source)
            self._touch(server)
            self.shown.pop(server.name, None)
            self.cluster.pass_time(0)

    @rule(name=names, writes=st.integers(1, 8))
    def restore(self, name: str, writes: int) -> None:
        """The primary is restored from an older copy of its disk, with the same timeline."""
        server = self.server(name)
        if server.primary:
            self.cluster.restore(server, writes)
            self.cluster.start(server)
            # Its position has to be compared with one that a replica had before.
            self.changed = dict.fromkeys(NAMES, 2)

    @rule(name=names)
    def upgrade(self, name: str) -> None:
        """The reported master is upgraded; any other server is only created anew."""
        server = self.server(name)
        if server.no_control_functions or self.state.system_identifier is None:
            return  # that the identifier has changed cannot be known
        self.cluster.upgrade(server, server.identifier + 1 + 10 * NAMES.index(name))
        self._touch(server)
        self.shown.pop(server.name, None)

    @rule(name=names, order=orders)
    def upgrade_while_the_others_are_down(self, name: str, order: list[str]) -> None:
        for other in NAMES:
            if other != name:
                self.cluster.stop(self.server(other))
        self.rounds(order, 3, busy=False)
        self.upgrade(name)
        self.rounds(order, 2, busy=False)

    @rule(name=names, order=orders)
    def repair(self, name: str, order: list[str]) -> None:
        """All others are rebuilt from this primary, and nothing is cut off any more."""
        server = self.server(name)
        if not server.primary or self.moved:
            return
        self.start(name)
        for other in self.cluster.servers.values():
            other.hidden = other.stalled = other.paused = False
            if other is not server:
                self.rebuild(next(n for n in NAMES if self.at[n] == other.name), name)
        self.rounds(order, 2, busy=True)

    @rule(name=names, other=names, order=orders, paused=st.booleans())
    def promote_unseen(self, name: str, other: str, order: list[str], paused: bool) -> None:
        """The promoted server cannot be checked for a while; ``other`` follows it and is late."""
        if name == other or self.server(name).primary or self.server(other).primary:
            return
        self.promote(name, True)
        self.follow(other, name)
        self.server(name).hidden = True
        self._run(0.3, busy=True)
        self.server(other).paused = paused
        self.rounds(order, 2, busy=True)
        self.server(name).hidden = False
        self._round(order)

    @rule(login_only=st.booleans(), no_control=st.booleans())
    def change_privileges(self, login_only: bool, no_control: bool) -> None:
        # What has changed before is seen before, and what can be seen now is known.
        self._round(list(NAMES))
        for server in self.cluster.servers.values():
            server.login_only = login_only
            server.no_control_functions = login_only and no_control
            if login_only and not server.primary:
                self.shown.pop(server.name, None)
        for name in NAMES:
            self._check(name)

    @rule(name=names, other=names)
    def move_names(self, name: str, other: str) -> None:
        """The servers exchange their names, and their addresses remain."""
        if name != other:
            self.at[name], self.at[other] = self.at[other], self.at[name]
            self._touch(self.server(name))
            self._touch(self.server(other))
            self.moved = True

    # Checks

    def _check(self, name: str, seconds: float = 0.005, look: Look = Look.ROUND) -> None:
        started = self.cluster.now
        self.cluster.pass_time(seconds)
        self._fold(name, self.cluster.observe(self.server(name), started), look)

    def _fold(self, name: str, result: Observation | Failure, look: Look) -> None:
        at = NOON + timedelta(seconds=result.finished)
        server = self.server(name)
        if isinstance(result, Observation):
            self.logs[name, at] = server.log
            self.last[name] = result.started, server.log
            left = self.changed.pop(name, 0) - 1
            if left > 0:
                self.changed[name] = left
            timelines = (result.timeline, result.control_timeline)
            self.shown[server.name] = max(
                (t for t in (*timelines, self.shown.get(server.name)) if t is not None), default=0
            )
        elif isinstance(self.checks.get(name), Observation) or not result.down:
            # While it is silent it may commit, although it has refused a connection before.
            self.first_failures[name] = result, self.snapshot
        self.checks[name] = result
        before = self.state
        index = NAMES.index(name)
        state = expire(self.state, result.finished, RULES)
        self.state = fold(state, index, result, at, RULES, look)
        self._publish()
        self._verify_role(before)
        if look is Look.ROUND and self.state.records[index].unsettled:
            self.cluster.pass_time(0.05)
            self._check(name, look=Look.RECHECK)

    def _publish(self) -> None:
        before, self.snapshot = self.snapshot, view(self.state, RULES, self.snapshot)
        assert self.snapshot == view(self.state, RULES), "a status was not updated"
        list(events(before, self.snapshot))

    @rule(name=names, seconds=st.sampled_from([0.001, 0.02, 0.3]))
    def check(self, name: str, seconds: float) -> None:
        self._check(name, seconds)

    def _round(self, order: list[str]) -> None:
        for name in order:
            self._check(name)
            self._verify()

    @rule(order=orders, rounds=st.integers(1, 4), busy=st.booleans())
    def rounds(self, order: list[str], rounds: int, busy: bool) -> None:
        for _ in range(rounds):
            self._round(order)
            self._run(RULES.sleep - 0.02, busy)

    @rule(order=orders)
    def more_rounds(self, order: list[str]) -> None:
        self.rounds(order, 2, busy=True)

    @rule(order=orders)
    def another_round(self, order: list[str]) -> None:
        self._round(order)

    # What has to hold

    @invariant()
    def _verify(self) -> None:
        if not self.snapshot.ready:
            return
        self._verify_evidence()
        # A history is known by the name of its server: a moved name is another server.
        if not self.changed and not self.moved:
            self._verify_freshness()
            self._verify_own_writes()
            self._verify_reads_in_an_outage()
            self._verify_master()

    def _verify_evidence(self) -> None:
        """The reported master is not one whose writes a newer timeline has made obsolete."""
        master = self.snapshot.master
        if master is None or master.timeline is None or self.moved:
            return
        for server in self.cluster.servers.values():
            if server.login_only and not server.primary:
                # It does not show what it receives. The server that it receives from does, but may
                # not have been checked yet, or may have been rebuilt since.
                continue
            newer = self.shown.get(server.name, 0) > master.timeline
            is_known = self.state.system_identifier in (None, server.identifier)
            assert not (newer and is_known and server.timeline > master.timeline), (
                f"{master.host} is reported on timeline {master.timeline}; {server.name} has shown "
                f"{self.shown[server.name]} and still has it"
            )

    def _verify_role(self, before: State) -> None:
        """On one timeline the role moves only to a server with replicas, or from a dead one."""
        old, new = before.master, self.state.master
        if not before.ready or old is None or new is None or old == new:
            return
        was, now = before.records[old].seen, self.state.records[new].seen
        loser = self.state.records[old].seen
        if was is None or now is None or loser is None or loser.in_recovery:
            return
        if len({seen.system_identifier for seen in (was, now, loser)}) > 1:
            return
        if was.timeline == now.timeline == loser.timeline and not self.changed:
            address = self.server(NAMES[new]).address
            assert any(
                isinstance(result, Observation)
                and (
                    (result.upstream or ("", 0))[0] == address
                    or (
                        not result.in_recovery and result.addresses == {address} and result.standbys
                    )
                )
                for result in self.checks.values()
            ), f"the role moved from {NAMES[old]} to {NAMES[new]}, which has no replicas"

    def _writer(self) -> Server | None:
        """The server that writes the history that lags refer to, if it still does."""
        history = self.state.history
        if history.writer is None:
            return None
        server = self.server(history.writer.removesuffix(":5432"))
        is_same = (
            server.primary
            and self.state.system_identifier in (None, server.identifier)
            and server.timeline == history.timeline
        )
        return server if is_same else None

    def _verify_freshness(self) -> None:
        """A replica lacks nothing that its master committed before its lag."""
        writer = self._writer()
        if writer is None:
            return
        if writer.shutting_down and not any(
            server.connected and server.upstream == writer.name and not server.shutting_down
            for server in self.cluster.servers.values()
        ):
            # It refuses new sessions, and no standby shows that it still serves those it has.
            return
        received = self._received_anywhere(writer)
        for status in self.snapshot.hosts:
            if status.lag_ms is None or status.checked_at is None or self._is_hidden(status):
                continue
            log = self.logs.get((status.host.name, status.checked_at))
            if log is None:
                continue
            moment = (status.checked_at - NOON).total_seconds()
            moment = min(moment, writer.ended_at)
            has = set(log)
            for write in writer.log:
                is_lost = not writer.running and write.number not in received
                if write.at <= moment - status.lag_ms / 1000 - _EPSILON and not is_lost:
                    assert write in has, (
                        f"{status.host} lacks {write}, its lag is {status.lag_ms} ms at {moment}"
                    )

    def _received_anywhere(self, writer: Server) -> set[int]:
        return {
            write.number
            for server in self.cluster.servers.values()
            if server is not writer
            for write in server.received
        }

    def _verify_own_writes(self) -> None:
        """A replica that answers ``min_lsn`` has the write; nothing else is the promise."""
        writer = self._writer()
        if writer is None:
            return
        present = set(writer.log)
        for write, timeline in self.client_writes:
            if write not in present:
                continue
            for wanted in (timeline, None):
                question = LIMITS.question(
                    Kind.REPLICA, min_lsn=write.lsn, timeline=wanted, fallback=Fallback.NONE
                )
                for status in self._answer(question):
                    assert self._is_hidden(status) or write in self.last[status.host.name][1], (
                        f"{status.host} answers min_lsn of {write} and lacks it"
                    )

    def _is_hidden(self, status: HostStatus) -> bool:
        """It shows neither its timeline nor its upstream (LOGIN only): nothing reveals that it
        still follows a former master that cannot be reached, or belongs to another cluster.
        """
        server = self.server(status.host.name)
        writer = self._writer()
        return status.timeline is None and (
            writer is None
            or server.upstream != writer.name
            or (server.no_control_functions and server.identifier != writer.identifier)
        )

    def _answer(self, question: Question) -> tuple[HostStatus, ...]:
        return choose(self.snapshot, question, Place()).hosts

    def _verify_reads_in_an_outage(self) -> None:
        """While the master is down, a replica that has all that is left of it is readable."""
        writer = self._writer()
        if writer is None or writer.running or self.moved or self._claims():
            return
        name = next(name for name in NAMES if self.at[name] == writer.name)
        failure = self.checks[name]
        if not (isinstance(failure, Failure) and failure.down):
            return
        live = [s for s in self.cluster.servers.values() if s.running and not s.hidden]
        began = max(self.first_failures[name][0].started, writer.ended_at)
        if any(s.connected for s in live) or any(c.started < began for c in self.checks.values()):
            return
        if any(
            isinstance(c, Observation) and c.receiving and c.upstream is None
            for c in self.checks.values()
        ):
            return  # the last check of a standby does not show that it streams from another one
        complete = [
            n
            for n in NAMES
            if self.server(n) in live
            and isinstance(self.checks[n], Observation)
            and not self.server(n).shutting_down
            and self.server(n).received == self.server(n).log == writer.log
            and self.server(n).timeline == writer.timeline
            # With LOGIN only, it shows the timeline of its last restartpoint.
            and not (
                self.server(n).login_only and self.server(n).control_timeline < writer.timeline
            )
        ]
        if complete and self._was_in_sync(name, complete) and not self._is_contested():
            for question in _READS:
                assert self._answer(question), f"{complete} can serve {question}"
        master = self.snapshot.master
        if complete and master is not None:
            for question in _READS:
                answers = self._answer(replace(question, fallback=Fallback.MASTER))
                assert master not in answers, f"a master that is down answers {question}"

    def _claims(self) -> list[Server]:
        return [s for s in self.cluster.servers.values() if s.is_writable]

    def _is_contested(self) -> bool:
        return len(self.state.writers) > 1

    def _was_in_sync(self, writer: str, replicas: list[str]) -> bool:
        """When the writer was last checked, less than an interval before it went down."""
        failure, before = self.first_failures[writer]
        return (
            failure.down
            and self.server(writer).ended_at - self.last[writer][0] <= RULES.sleep + 0.3
            and all(
                status.sync_by_time and status.lag_ms is not None and status.lag_ms <= 300
                for status in before.hosts
                if status.host.name in replicas
            )
        )

    def _verify_master(self) -> None:
        """The only primary of a healthy cluster is reported."""
        servers = [self.server(name) for name in NAMES]
        live = [server for server in servers if server.running]
        primaries = [server for server in live if server.primary]
        if len(primaries) != 1 or self.moved:
            return
        (primary,) = primaries
        for index, server in enumerate(servers):
            record = self.state.records[index]
            is_dead = record.seen is None and record.failure is not None
            if server.running:
                is_settled = not server.hidden and not server.shutting_down and not record.failure
                if not is_settled or not (server is primary or server.connected):
                    return
                is_stale = record.seen is None or record.seen.receiving is server.primary
                if is_stale or server.identifier != primary.identifier:
                    return
            elif not is_dead or (
                server.timeline > primary.timeline and server.identifier == primary.identifier
            ):
                return
        if primary.timeline < max(s.timeline for s in live):
            return
        if primary.identifier != self.state.system_identifier and not self._was_master(primary):
            return
        master: HostStatus | None = self.snapshot.master
        assert master is not None, f"no master: {self.snapshot.no_master}"
        assert self.server(master.host.name) is primary

    def _was_master(self, primary: Server) -> bool:
        incumbent = self.state.incumbent
        return incumbent is not None and self.server(NAMES[incumbent]) is primary
