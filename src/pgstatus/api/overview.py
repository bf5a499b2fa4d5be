"""The JSON of ``/overview``, which the status page shows."""

import logging
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime

from pgstatus import __version__
from pgstatus.api.service import Daemon, Service
from pgstatus.core.render import host_entry, rfc3339, source_entries
from pgstatus.core.snapshot import Snapshot
from pgstatus.telemetry.history import SAMPLES, STEP, Entry
from pgstatus.telemetry.incidents import Incident, incidents

REJECTED = "rejected"
"""The state of a cluster whose configuration cannot be used."""


def overview(
    daemon: Daemon, service: Service, at: datetime, name: str = ""
) -> Mapping[str, object]:
    """The data of the status page of the cluster ``name`` at the time ``at``."""
    snapshot, now = service.read(), service.now()
    master, history, limits = snapshot.master, service.history, service.thresholds
    return {
        **_instance(daemon, at),
        "cluster": service.cluster,
        "error": "; ".join(daemon.rejected().get(name, ())) or None,
        "ready": snapshot.ready,
        "stale": snapshot.ready and snapshot.is_stale(now),
        "master": master
        and {
            "host": master.host.name,
            "port": master.host.port,
            "since": rfc3339(history.master_since),
        },
        "no_master": snapshot.no_master,
        "no_master_since": rfc3339(history.no_master_since),
        "last_master": None if snapshot.last_master is None else str(snapshot.last_master),
        "masters": snapshot.claims,
        "former_master": _former_master(snapshot, history.former_master),
        "upstreams": source_entries(snapshot),
        "limits": {"lag_ms": limits.lag_ms, "lag_bytes": limits.lag_bytes},
        "chart": {"step_s": STEP, "samples": SAMPLES},
        "hosts": [
            {**host_entry(status), "lags_ms": history.lags(status.host, now)}
            for status in snapshot.hosts
        ],
        "history": [_incident(one) for one in reversed(incidents(history.entries()))],
    }


def overview_of_all(daemon: Daemon, at: datetime) -> Mapping[str, object]:
    """The data of the status page of several clusters."""
    return {**_instance(daemon, at), "clusters": cluster_entries(daemon)}


def cluster_entries(daemon: Daemon) -> Sequence[Mapping[str, object]]:
    """The entries of ``/clusters``."""
    clusters, rejected = daemon.clusters(), daemon.rejected()
    return [
        *(_cluster(name, service, rejected.get(name)) for name, service in clusters.items()),
        *(_rejected(name, why) for name, why in rejected.items() if name not in clusters),
    ]


def _instance(daemon: Daemon, at: datetime) -> Mapping[str, object]:
    return {
        "version": __version__,
        "instance": socket.gethostname(),
        "service": daemon.report(),
        "documentation": daemon.documentation(),
        "now": rfc3339(at),
    }


def _cluster(name: str, service: Service, problems: Sequence[str] | None) -> Mapping[str, object]:
    snapshot = service.read()
    replicas = [status for status in snapshot.hosts if status.is_live_replica]
    is_stale = snapshot.ready and snapshot.is_stale(service.now())
    level, state = _condition(snapshot, is_stale, bool(problems))
    return {
        "name": name or service.cluster,
        "level": level,
        "state": state,
        "ready": snapshot.ready,
        "stale": is_stale,
        "master": None if snapshot.master is None else str(snapshot.master.host),
        "master_since": rfc3339(service.history.master_since),
        "no_master": snapshot.no_master,
        "no_master_since": rfc3339(service.history.no_master_since),
        "masters": snapshot.claims,
        "hosts": len(snapshot.hosts),
        "hosts_alive": sum(status.alive for status in snapshot.hosts),
        "replicas": len(replicas),
        "replicas_in_sync": sum(status.in_sync for status in replicas),
        "error": "; ".join(problems) if problems else None,
    }


def _condition(snapshot: Snapshot, is_stale: bool, is_rejected: bool) -> tuple[str, str]:
    """The most severe problem of a cluster, and its level: ``error``, ``warning`` or ``ok``."""
    master, hosts = snapshot.master, snapshot.hosts
    dead = sum(not status.alive for status in hosts)
    replicas = [status for status in hosts if status.is_live_replica]
    problems = (
        (not snapshot.ready, "warning", "not ready"),
        (is_stale, "error", "stale"),
        (len(snapshot.claims) > 1, "error", "split brain"),
        (master is None, "error", "no master"),
        (master is not None and master.down, "warning", "master down"),
        (master is not None and master.possible_dead, "warning", "master possibly dead"),
        (dead > 0, "warning", f"{dead} host{'s' if dead > 1 else ''} dead"),
        (len(replicas) < len(hosts) - 1, "warning", "second master"),
        (not all(status.in_sync for status in replicas), "warning", "not in sync"),
        (is_rejected, "warning", REJECTED),
        (True, "ok", "ok"),
    )
    return next((level, state) for is_so, level, state in problems if is_so)


def _rejected(name: str, problems: Sequence[str]) -> Mapping[str, object]:
    """A cluster whose configuration cannot be used, and that was not monitored before."""
    nothing = dict.fromkeys(("master", "master_since", "no_master", "no_master_since"))
    numbers = dict.fromkeys(("hosts", "hosts_alive", "replicas", "replicas_in_sync"), 0)
    flags = {"ready": False, "stale": False, "masters": []}
    condition = {"level": "error", "state": REJECTED}
    error = "; ".join(problems)
    return {"name": name, **condition, **flags, **nothing, **numbers, "error": error}


def _former_master(snapshot: Snapshot, name: str | None) -> str | None:
    """The former master while it is monitored and has not become a replica of the new one."""
    for status in snapshot.hosts:
        if str(status.host) == name and not status.master and not status.is_live_replica:
            return name
    return None


def _incident(incident: Incident) -> Mapping[str, object]:
    return {
        "at": rfc3339(incident.at),
        "change": incident.change,
        "host": incident.host,
        "level": _level(incident.level),
        "text": incident.text,
        "entries": [_entry(entry) for entry in incident.entries],
    }


def _entry(entry: Entry) -> Mapping[str, object]:
    return {
        "at": rfc3339(entry.at),
        "change": entry.event.change,
        "host": entry.event.host,
        "level": _level(entry.event.level),
        "text": entry.event.text,
    }


def _level(level: int) -> str:
    return logging.getLevelName(level).lower()
