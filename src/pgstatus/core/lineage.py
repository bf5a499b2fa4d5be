"""From which server each replica streams, and whose history it therefore shares. Pure.

A replica names its upstream (``pg_stat_wal_receiver``), and a server lists its standbys
(``pg_stat_replication``). Either is enough, both may be unreadable. Servers are compared by
address: a server can have several names. An address that several hosts share says nothing about a
standby, and a loopback address or socket directory refers to the machine of the replica itself.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address

from pgstatus.core.snapshot import Host, Observation
from pgstatus.core.state import Record, State

_STREAMING = {"streaming", "catchup"}

Upstreams = Sequence[int | None]
"""For each host, the index of the host that it streams from."""


def upstreams(state: State) -> Upstreams:
    """The configured hosts that the live replicas stream from; None: not known."""
    servers: dict[tuple[str, int], int] = {}
    owners: dict[str, set[int]] = defaultdict(set)
    # The addresses of a host that is dead may belong to another one by now.
    by_health = sorted(range(len(state.hosts)), key=lambda i: state.records[i].seen is None)
    for index in by_health:
        host, record = state.hosts[index], state.records[index]
        servers.setdefault((host.name.lower(), host.port), index)
        for address in record.addresses:
            servers.setdefault((address, host.port), index)
            if record.seen is not None:
                owners[address].add(index)
    listed = _listed(state.records)
    return [
        _upstream(index, record, state.hosts, servers, owners, listed)
        if record.is_live_replica
        else None
        for index, record in enumerate(state.records)
    ]


def _listed(records: Sequence[Record]) -> Mapping[str, set[int]]:
    """For each address, the servers to which a standby with this address is connected."""
    listed: dict[str, set[int]] = defaultdict(set)
    for index, record in enumerate(records):
        if record.seen is None or record.has_failed:
            continue
        for standby in record.seen.standbys or ():
            if standby.address is not None and standby.state in _STREAMING:
                listed[standby.address].add(index)
    return listed


def _upstream(
    index: int,
    record: Record,
    hosts: Sequence[Host],
    servers: Mapping[tuple[str, int], int],
    owners: Mapping[str, set[int]],
    listed: Mapping[str, set[int]],
) -> int | None:
    seen = record.seen
    if seen is None or not seen.receiving:
        return None
    if seen.upstream is not None:
        name, port = seen.upstream
        if _is_local(name):
            return next(
                (
                    servers[address, port]
                    for address in record.addresses | {name}
                    if servers.get((address, port), index) != index
                ),
                None,
            )
        found = servers.get((name.lower(), port))
        if found is not None:
            return found if found != index else None
    lists = set().union(
        *(listed.get(address, ()) for address in record.addresses if owners[address] == {index})
    ) - {index}
    return lists.pop() if len(lists) == 1 else None


@lru_cache(4096)
def _is_local(name: str) -> bool:
    if name.startswith("/") or name.lower() == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def follow(state: State, streams: Upstreams) -> State:
    """The state with the upstream of each replica, and the master that it leads to."""
    names = [str(host) for host in state.hosts]
    before = tuple(
        _with_upstream(record, None if upstream is None else names[upstream])
        for record, upstream in zip(state.records, streams, strict=True)
    )
    records = tuple(
        _follow(record, names, _chain(index, streams), before, state)
        for index, record in enumerate(before)
    )
    return state if records == state.records else state._replace(records=records)


def _with_upstream(record: Record, upstream: str | None) -> Record:
    seen = record.seen
    if seen is None or record.has_failed or upstream == record.streams_from:
        return record
    return record._replace(streams_from=upstream, upstream_since=seen.started)


def _follow(
    record: Record,
    names: Sequence[str],
    chain: Sequence[int],
    records: Sequence[Record],
    state: State,
) -> Record:
    seen = record.seen
    if seen is None or record.has_failed:
        return record
    follows, unconfirmed = record.follows, False
    if not seen.in_recovery:
        follows = None
    elif chain:
        root, source = names[chain[-1]], records[chain[-1]]
        is_master = (
            root == state.history.writer if source.seen is None else not source.seen.in_recovery
        )
        # A replica that has lost its own upstream still belongs to the history that it had.
        master = root if is_master else source.follows
        # A server that has another upstream now may have been rebuilt. That the replica could
        # continue to stream from it is shown by its next check.
        is_older = any(seen.started < records[index].upstream_since for index in chain)
        unconfirmed = is_older and master != follows
        follows = None if unconfirmed else master
    elif seen.receiving:
        follows = None
    if (follows, unconfirmed) == (record.follows, record.unconfirmed):
        return record
    return record._replace(follows=follows, unconfirmed=unconfirmed)


def _chain(index: int, streams: Upstreams) -> Sequence[int]:
    """The servers that this replica streams from, directly and through others, in this order.

    Empty if it streams from none that is known, or in a circle.
    """
    chain: list[int] = []
    upstream = streams[index]
    while upstream is not None:
        if upstream == index or upstream in chain:
            return ()
        chain.append(upstream)
        upstream = streams[upstream]
    return chain


def may_stream_from(seen: Observation, upstream: int | None, server: int) -> bool:
    """The replica streams from this server, or from one that is not known."""
    return seen.receiving and upstream in (None, server)
