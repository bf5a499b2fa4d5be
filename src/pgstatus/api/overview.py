"""The JSON of ``/overview``, which the status page shows."""

import logging
import socket
from collections.abc import Mapping
from datetime import datetime

from pgstatus import __version__
from pgstatus.api.service import Service
from pgstatus.core.render import host_entry, rfc3339
from pgstatus.core.snapshot import Snapshot
from pgstatus.telemetry.history import SAMPLES, STEP, Entry
from pgstatus.telemetry.incidents import Incident, incidents


def overview(
    service: Service, snapshot: Snapshot, *, now: float, at: datetime
) -> Mapping[str, object]:
    """The data of the status page. ``now`` is on the snapshot's clock, ``at`` the same in UTC."""
    master, history, limits = snapshot.master, service.history, service.thresholds
    return {
        "version": __version__,
        "cluster": service.cluster,
        "instance": socket.gethostname(),
        "service": service.report(),
        "documentation": service.documentation,
        "now": rfc3339(at),
        "ready": snapshot.ready,
        "stale": snapshot.ready and snapshot.is_stale(now),
        "master": master
        and {
            "host": master.host.name,
            "port": master.host.port,
            "since": rfc3339(history.master_since),
        },
        "no_master": snapshot.no_master,
        "masters": snapshot.claims,
        "former_master": _former_master(snapshot, history.former_master),
        "limits": {"lag_ms": limits.lag_ms, "lag_bytes": limits.lag_bytes},
        "chart": {"step_s": STEP, "samples": SAMPLES},
        "hosts": [
            {**host_entry(status), "lags_ms": history.lags(status.host, now)}
            for status in snapshot.hosts
        ],
        "history": [_incident(one) for one in reversed(incidents(history.entries()))],
    }


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
