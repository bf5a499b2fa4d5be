"""The state of a cluster, or of all clusters, as a running instance reports it: ``/overview``,
``/clusters``, and events of ``/watch``.

Fields that an older release does not report are None.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any

from pgstatus.cli.remote import Instance, Response
from pgstatus.core.snapshot import Host
from pgstatus.errors import StartError, UnreachableError, in_a_line

Entry = Mapping[str, Any]
"""A host as in ``/hosts``."""

_FIGURES = {
    "lag_ms", "lag_bytes", "lsn", "checked_at", "sync_by_time", "sync_by_bytes", "in_sync",
    "reason",
}  # fmt: skip
"""What changes without a change of the cluster."""
_MAX_NAMES = 5
"""In an error message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What ``/overview`` returned."""

    now: datetime
    """The time of the server."""
    version: str
    cluster: str | None
    instance: str | None
    ready: bool
    stale: bool
    master: str | None
    since: datetime | None
    no_master: str | None
    no_master_since: datetime | None
    last_master: str | None
    masters: Sequence[str]
    former_master: str | None
    upstreams: Sequence[Entry]
    """Of a relay: name and error."""
    hosts: Sequence[Entry]

    @property
    def has_master(self) -> bool:
        return self.master is not None

    @property
    def json(self) -> Mapping[str, object]:
        """The output of ``--json``."""
        return {
            "cluster": self.cluster,
            "instance": self.instance,
            "version": self.version,
            "now": self.now.isoformat(timespec="milliseconds"),
            "ready": self.ready,
            "stale": self.stale,
            "master": self.master,
            "master_since": _time(self.since),
            "last_master": self.last_master,
            "no_master": self.no_master,
            "no_master_since": _time(self.no_master_since),
            "masters": self.masters,
            "former_master": self.former_master,
            "upstreams": self.upstreams,
            "hosts": self.hosts,
        }

    def after(self, event: Entry) -> "State | None":
        """With the figures of an event of ``/watch``; None if more than figures has changed."""
        hosts = event["hosts"]
        facts = [event[key] for key in ("ready", "stale", "master", "no_master")]
        known = [self.ready, self.stale, self.master, self.no_master]
        if (
            list(map(_facts, hosts)) != list(map(_facts, self.hosts))
            or facts != known
            or list(event.get("upstreams", self.upstreams)) != list(self.upstreams)
        ):
            return None
        return replace(self, hosts=hosts, now=time_of(event) or self.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """One line for each cluster of an instance."""

    now: datetime
    """The time of the server."""
    version: str
    instance: str | None
    clusters: Sequence[Entry]
    """As in ``/clusters``."""

    @property
    def has_master(self) -> bool:
        """All clusters have one."""
        return all(cluster["master"] is not None for cluster in self.clusters)

    @property
    def json(self) -> Mapping[str, object]:
        """The output of ``--json``."""
        return {
            "instance": self.instance,
            "version": self.version,
            "now": self.now.isoformat(timespec="milliseconds"),
            "clusters": self.clusters,
        }


def fetch(instance: Instance) -> State | Clusters:
    """The present state: of the cluster, or of all if there are several and none is chosen.

    UnreachableError: no response of pg-status; StartError: refused, or there is no such cluster.
    """
    response = instance.get("/overview")
    if response.status == 404:
        raise not_found(instance, response)
    try:
        found = json.loads(body(response))
        return _clusters(found) if "clusters" in found else parse(found)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise foreign(instance) from None


def fetch_clusters(instance: Instance) -> Clusters:
    """The present state of all clusters, also if there is only one. Errors as of `fetch`."""
    found = fetch(instance.of_all)
    if isinstance(found, Clusters):
        return found
    response = instance.of_all.get("/clusters")
    if response.status == 404:
        raise StartError(f"pg-status {found.version} at {instance.url} has no list of clusters")
    try:
        clusters = json.loads(body(response))
        return Clusters(
            now=found.now, version=found.version, instance=found.instance, clusters=clusters
        )
    except ValueError:
        raise foreign(instance) from None


def not_found(instance: Instance, response: Response) -> StartError | UnreachableError:
    """Why a path of pg-status has the status 404: the cluster is unknown, or none is chosen."""
    try:
        reason = StartError(in_a_line(str(json.loads(response.body)["error_text"])))
        clusters = json.loads(body(instance.of_all.get("/clusters")))
        names = [in_a_line(cluster["name"] or "") for cluster in clusters]
    except StartError:  # the list requires a token, which a probe does not
        return reason
    except (ValueError, TypeError, KeyError):
        return foreign(instance)
    if instance.cluster is not None:
        return unknown_cluster(instance.cluster, names)
    return StartError(f"several clusters are configured; choose one with --cluster: {_some(names)}")


def unknown_cluster(name: str, names: Sequence[str]) -> StartError:
    """``names``: of the existing clusters, the only one of which may be without a name."""
    if not any(names):
        return StartError(f"unknown cluster {name!r}: there is one cluster, without a name")
    similar = get_close_matches(name, names, 1)
    hint = f" (did you mean {similar[0]}?)" if similar else ""
    return StartError(f"unknown cluster {name!r}{hint}: expected one of {_some(names)}")


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMES
    text = ", ".join(names[:_MAX_NAMES])
    return f"{text} and {more} more (pg-status clusters)" if more > 0 else text


def foreign(instance: Instance) -> UnreachableError:
    """The response is not that of pg-status."""
    return UnreachableError(f"the server at {instance.url} is not pg-status")


def body(response: Response) -> str:
    """The body of a successful response. StartError: the request was refused."""
    if response.is_ok:
        return response.body
    raise StartError(f"the request was refused with status {response.status}: {refusal(response)}")


def refusal(response: Response) -> str:
    """The reason in a response that is not successful, which may be that of another server."""
    if response.status == HTTPStatus.UNAUTHORIZED and "token required" in response.body:
        return "token required; use --url with --token-file"
    try:
        text = json.loads(response.body)["error_text"]
    except (ValueError, KeyError, TypeError):
        text = response.body.strip() or "empty response"
    return in_a_line(str(text))


def name(host: Entry) -> str:
    """``host:port``."""
    return in_a_line(str(Host(host["host"], host["port"])))


def time_of(event: Entry) -> datetime | None:
    """The time of the server when it sent an event of ``/watch``."""
    until, left = event.get("fresh_until"), event.get("fresh_ms")
    if until is None or left is None:
        return None
    return datetime.fromisoformat(until) - timedelta(milliseconds=left)


def _clusters(found: Entry) -> Clusters:
    return Clusters(
        now=datetime.fromisoformat(found["now"]),
        version=in_a_line(found["version"]),
        instance=_line(found["instance"]),
        clusters=list(found["clusters"]),
    )


def parse(found: Entry) -> State:
    """The state in a response of ``/overview``. ValueError, TypeError or KeyError: it is none."""
    master = found["master"]
    since, lost = master and master["since"], found.get("no_master_since")
    hosts = [{k: v for k, v in host.items() if k != "lags_ms"} for host in found["hosts"]]
    return State(
        now=datetime.fromisoformat(found["now"]),
        version=in_a_line(found["version"]),
        cluster=_line(found.get("cluster")),
        instance=_line(found.get("instance")),
        ready=found["ready"],
        stale=found["stale"],
        master=master and name(master),
        since=since and datetime.fromisoformat(since),
        no_master=found["no_master"],
        no_master_since=lost and datetime.fromisoformat(lost),
        last_master=_line(found.get("last_master")),
        masters=found["masters"],
        former_master=found.get("former_master"),
        upstreams=found.get("upstreams") or (),
        hosts=hosts,
    )


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds")


def _line(text: str | None) -> str | None:
    return None if text is None else in_a_line(text)


def _facts(host: Entry) -> Entry:
    return {key: value for key, value in host.items() if key not in _FIGURES}
