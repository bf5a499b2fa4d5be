"""The JSON of ``/overview``, which the status page shows."""

import logging
from collections.abc import Mapping
from datetime import datetime

from pgstatus import __version__
from pgstatus.core.render import host_entry, rfc3339
from pgstatus.core.selection import Thresholds
from pgstatus.core.snapshot import Snapshot
from pgstatus.telemetry.history import SAMPLES, STEP, History


def overview(
    snapshot: Snapshot,
    history: History,
    limits: Thresholds,
    *,
    now: float,
    at: datetime,
) -> Mapping[str, object]:
    """The data of the status page. ``now`` is on the snapshot's clock, ``at`` the same in UTC."""
    master = snapshot.master
    return {
        "version": __version__,
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
        "limits": {"lag_ms": limits.lag_ms, "lag_bytes": limits.lag_bytes},
        "chart": {"step_s": STEP, "samples": SAMPLES},
        "hosts": [
            {**host_entry(status), "lags_ms": history.lags(status.host, now)}
            for status in snapshot.hosts
        ],
        "history": [
            {
                "at": rfc3339(entry.at),
                "change": entry.event.change,
                "host": entry.event.host,
                "level": logging.getLevelName(entry.event.level).lower(),
                "text": entry.event.text,
            }
            for entry in history.entries()
        ],
    }
