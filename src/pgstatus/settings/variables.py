"""Every variable of the configuration, declared once.

The tables of ``docs/configuration.md`` are generated from `VARIABLES`
(``python -m tests.support.variables_table``); tests compare them and the file of the Debian
package with it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pgstatus.core.election import SplitBrain
from pgstatus.core.selection import MAX_WAIT_MS, Fallback
from pgstatus.settings.parsers import Parser, milliseconds, one_of, path, seconds, text, whole

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

PREFIX = "pg_status__"


@dataclass(frozen=True, slots=True)
class Variable(Generic[T_co]):
    """One variable."""

    group: str
    """The section of the documentation."""
    name: str
    """Without the prefix."""
    parser: Parser[T_co]
    default: T_co
    description: str
    """Markdown."""
    older: str | None = None
    """Its name in the C service 1.0, with the same values."""
    restart: bool = False
    """A reload does not apply a change."""
    process: bool = False
    """It applies to the process, not to a cluster."""
    shown_default: str | None = None
    """The default in the documentation where it is computed."""

    @property
    def full_name(self) -> str:
        return PREFIX + self.name


_declared: list[Variable[object]] = []


def _declare(
    group: str,
    name: str,
    parser: Parser[T],
    default: T,
    description: str,
    *,
    older: str | None = None,
    restart: bool = False,
    process: bool = False,
    shown_default: str | None = None,
) -> Variable[T]:
    variable = Variable(
        group, name, parser, default, description, older, restart, process, shown_default
    )
    _declared.append(variable)
    return variable


HOSTS: Variable[str | None] = _declare(
    "hosts",
    "hosts",
    text("host, host:port, [v6]:port or postgresql:// URIs"),
    None,
    "The PostgreSQL hosts, comma-separated. Each is `host`, `host:port`, `[v6]:port`, a directory "
    "of Unix-domain sockets (`/run/postgresql`) or a `postgresql://` URI with one host. The "
    "parameters of a URI (user, password, database, any libpq parameter) take precedence over the "
    "variables below. An empty item is an error.",
    shown_default="required",
)
DELIMITER = _declare(
    "hosts", "delimiter", text(), ",", "The separator of the items of every list variable."
)
PG_PORT = _declare(
    "hosts",
    "pg_port",
    text("ports, one for all hosts or one for each"),
    "5432",
    "One port for all hosts, or one per host in order. A port in the host entry takes precedence. "
    "If the list is too short or ends with empty items, its last port applies to the remaining "
    "hosts.",
    older="port",
)
PG_USER = _declare(
    "hosts",
    "pg_user",
    text(),
    "postgres",
    "The monitoring role. It requires LOGIN and nothing else; with `pg_monitor` the timeline of "
    "replicas is available in more situations (see [failover.md](failover.md)).",
)
PG_PASSWORD = _declare(
    "hosts",
    "pg_password",
    text(),
    "postgres",
    "Its password. The default applies only if no other password is configured: no password file, "
    "none in the URI, and no `PGPASSWORD`, `PGPASSFILE` or `~/.pgpass`.",
)
PG_PASSWORD_FILE: Variable[Path | None] = _declare(
    "hosts",
    "pg_password_file",
    path(),
    None,
    "A file that contains the password. It is read at every login, so a changed password requires "
    "no restart. Takes precedence over `pg_password`, not over a password in a URI.",
)
PG_DATABASE = _declare("hosts", "pg_database", text(), "postgres", "The database to connect to.")


SLEEP_MS = _declare(
    "schedule",
    "sleep_ms",
    milliseconds(),
    1000,
    "Interval between two checks of a host, milliseconds.",
)
SLEEP: Variable[float | None] = _declare(
    "schedule",
    "sleep",
    seconds(),
    None,
    "The name of `sleep_ms` in the C service 1.0: seconds, may have a fraction.",
)
FAILOVER_SLEEP_MS = _declare(
    "schedule",
    "failover_sleep_ms",
    milliseconds(),
    100,
    "The interval while there is no healthy master, a replica does not yet follow the new master, "
    "or a host has not been checked yet, milliseconds. After a minute it increases gradually to "
    "`sleep_ms`.",
)
CONNECT_TIMEOUT = _declare(
    "schedule",
    "connect_timeout",
    seconds(zero=True),
    2.0,
    "Limit for name resolution, connection and login together, seconds, may have a fraction. `0`: "
    "no limit of its own; `query_timeout_ms` applies.",
)
QUERY_TIMEOUT_MS = _declare(
    "schedule",
    "query_timeout_ms",
    milliseconds(),
    1000,
    "Limit for one whole check, including a login, milliseconds.",
    shown_default="`1000`, or `connect_timeout` if that is set to more",
)
CONN_MAX_AGE_MS = _declare(
    "schedule",
    "conn_max_age_ms",
    whole(0),
    15_000,
    "A connection to a host is replaced at the latest after this time (usually after 0.7 of it), "
    "milliseconds, which also shows whether the host accepts new sessions. `0`: a new connection "
    "for every check.",
)
MAX_FAILS = _declare(
    "schedule",
    "max_fails",
    whole(0),
    3,
    "Number of consecutive failed checks after which a host is dead. While checks run at "
    "`failover_sleep_ms`, one failure per `sleep_ms` counts. `0` is taken as `1`.",
)
MAX_STALENESS_MS: Variable[int | None] = _declare(
    "schedule",
    "max_staleness_ms",
    whole(0),
    None,
    "The state of a host whose last successful check is older is unknown, even before "
    "`max_fails`, milliseconds. If no check at all has ended within this time, responses are 503. "
    "Minimum: `sleep_ms` + `query_timeout_ms`. `0`: no limit.",
    shown_default="`sleep_ms` + `query_timeout_ms`, times 3 or `max_fails`, whichever is more",
)


SYNC_MAX_LAG_MS = _declare(
    "responses",
    "sync_max_lag_ms",
    whole(0),
    1000,
    "The limit of `/sync_by_time` if the request contains none, milliseconds.",
)
SYNC_MAX_LAG_BYTES = _declare(
    "responses",
    "sync_max_lag_bytes",
    whole(0),
    1_000_000,
    "The limit of `/sync_by_bytes` if the request contains none, bytes.",
)
MIN_LSN_WAIT_MS = _declare(
    "responses",
    "min_lsn_wait_ms",
    whole(0, MAX_WAIT_MS),
    20,
    "How long a request with `min_lsn` waits for a replica to reach the position before the "
    "`fallback` applies, milliseconds. `0`: it does not wait.",
)
FALLBACK = _declare(
    "responses",
    "fallback",
    one_of(*Fallback),
    "master",
    "The response to a request for a replica if no replica is within the limits. `master`: the "
    "master, or 404 if it is down. `stale`: the master, or if it is down the live replica of its "
    "history with the least lag, marked as stale. `none`: 404. The parameter `fallback=` of a "
    "request takes precedence.",
)
FALLBACK_PER_S: Variable[int | None] = _declare(
    "responses",
    "fallback_per_s",
    whole(1),
    None,
    "Maximum number of requests per second that fall back to the master. For further ones the "
    "response is as if the master were down.",
    shown_default="no limit",
)
SPLIT_BRAIN = _declare(
    "responses",
    "split_brain",
    one_of(*SplitBrain),
    "newest_timeline",
    "The response of `/master` if several hosts are masters: the one on the `newest_timeline`; the "
    "`first` in the list (as in the C service 2.2); `none`, a 503 that lists them.",
)
HOSTS_DC: Variable[str | None] = _declare(
    "responses",
    "hosts_dc",
    text(),
    None,
    "The data centre of each host, in order. An empty item: the host has none.",
)
HOSTS_GEO: Variable[str | None] = _declare(
    "responses", "hosts_geo", text(), None, "The region of each host, in order."
)
CURRENT_DC: Variable[str | None] = _declare(
    "responses",
    "current_dc",
    text(),
    None,
    "The data centre of this instance: replicas in the same `dc` are preferred, then those in the "
    "same `geo`.",
)
CURRENT_DC_ENV: Variable[str | None] = _declare(
    "responses",
    "current_dc_env",
    text("the name of a variable"),
    None,
    "The name of another variable that contains `current_dc`.",
)
CURRENT_GEO: Variable[str | None] = _declare(
    "responses", "current_geo", text(), None, "The region of this instance."
)
CURRENT_GEO_ENV: Variable[str | None] = _declare(
    "responses",
    "current_geo_env",
    text("the name of a variable"),
    None,
    "The name of another variable that contains `current_geo`.",
)


NATS: Variable[str | None] = _declare(
    "fleet",
    "nats",
    text("nats:// or tls:// URLs"),
    None,
    "NATS servers with JetStream, comma-separated: `nats://n1:4222,nats://n2:4222`, or `tls://` to "
    "require TLS. A URL may contain a user and a password, or a token (`nats://user:password@n1`, "
    "`nats://token@n1`). An instance with `hosts` publishes its evidence, an instance without "
    "follows the evidence of others (see [nats.md](nats.md)). Requires the extra `nats`.",
)
NATS_CREDENTIALS_FILE: Variable[Path | None] = _declare(
    "fleet",
    "nats_credentials_file",
    path("a readable .creds file, or one line: user:password or a token"),
    None,
    "A file with the credentials for NATS: a `.creds` file, or one line `user:password`, or one "
    "line with a token. It is read at every connection. Takes precedence over a user in the URL.",
)
NATS_TLS_CA: Variable[Path | None] = _declare(
    "fleet",
    "nats_tls_ca",
    path(),
    None,
    "The certificate authorities of the NATS servers (PEM). Default: those of the system. Each of "
    "the variables `nats_tls_*` makes TLS a requirement.",
)
NATS_TLS_CERT: Variable[Path | None] = _declare(
    "fleet",
    "nats_tls_cert",
    path(),
    None,
    "The client certificate for the NATS servers, followed by intermediate certificates (PEM).",
)
NATS_TLS_KEY: Variable[Path | None] = _declare(
    "fleet", "nats_tls_key", path(), None, "Its private key (PEM, without a passphrase)."
)
NATS_BUCKET = _declare(
    "fleet",
    "nats_bucket",
    text("letters, digits, _ and -", "[A-Za-z0-9_-]+"),
    "pg-status",
    "The JetStream key-value bucket. Watchers create it if it does not exist. Several clusters "
    "can share it.",
)
NATS_REPLICAS = _declare(
    "fleet",
    "nats_replicas",
    whole(1, 5),
    1,
    "The number of NATS servers that store the bucket, if it is created: 3 for a cluster of three "
    "servers. An existing bucket is not changed.",
)
NATS_NAME: Variable[str | None] = _declare(
    "fleet",
    "nats_name",
    text("a name of at most 60 characters", r"[^\x00-\x1f\x7f-\x9f]{1,60}"),
    None,
    "The name of this watcher in the bucket. No other watcher of the cluster may have it.",
    shown_default="the host name",
)
UPSTREAMS: Variable[str | None] = _declare(
    "fleet",
    "upstreams",
    text("URLs of other pg-status instances"),
    None,
    "Instead of `hosts`: the URLs of two or three pg-status instances that check the hosts, "
    "comma-separated. Each is `http://host:port`, `https://host:port` or `unix:/path`, with "
    "`/c/NAME` for one of many clusters. This instance is a *relay*: it applies its rules to their "
    "results and makes no connection to PostgreSQL.",
)
UPSTREAMS_TOKEN_FILE: Variable[Path | None] = _declare(
    "fleet",
    "upstreams_token_file",
    path(),
    None,
    "A file with the token that the upstreams require (their `http_token_file`); of several lines "
    "the first one is used.",
)
UPSTREAMS_TLS_CA: Variable[Path | None] = _declare(
    "fleet",
    "upstreams_tls_ca",
    path(),
    None,
    "HTTPS: the certificate authorities of the upstreams (PEM). Without it those of the system "
    "apply.",
)
UPSTREAMS_TLS_CERT: Variable[Path | None] = _declare(
    "fleet",
    "upstreams_tls_cert",
    path(),
    None,
    "HTTPS: the client certificate for upstreams with `http_tls_client_ca` (PEM).",
)
UPSTREAMS_TLS_KEY: Variable[Path | None] = _declare(
    "fleet", "upstreams_tls_key", path(), None, "HTTPS: its private key (PEM, no passphrase)."
)
FALLBACK_DIRECT = _declare(
    "fleet",
    "fallback_direct",
    one_of("true", "false"),
    "false",
    "`true`: while no upstream delivers results, the relay checks `hosts` itself. It begins some "
    "seconds after it has lost the last upstream (a random time, so that not all relays connect at "
    "the same moment), and ends when an upstream has been back for some seconds.",
)
CLUSTERS: Variable[str | None] = _declare(
    "clusters",
    "clusters",
    text("names of clusters"),
    None,
    "The names of the clusters, comma-separated (see [clusters.md](clusters.md)). Each variable of "
    "a cluster is `pg_status__NAME__VARIABLE`; if it is not set, `pg_status__VARIABLE` applies.",
    process=True,
)
CLUSTERS_DIR: Variable[Path | None] = _declare(
    "clusters",
    "clusters_dir",
    path("a directory"),
    None,
    "A directory in which each file `NAME.env` defines the cluster NAME by variables "
    "`pg_status__VARIABLE`. It is read again on a reload.",
    process=True,
)


CLUSTER_NAME: Variable[str | None] = _declare(
    "process",
    "cluster_name",
    text("a name without control characters", r"[^\x00-\x1f\x7f-\x9f]*"),
    None,
    "The name of a single cluster on the status page, in the command line, in the application_name "
    "of the sessions and in the NATS bucket. It is not part of paths and metrics.",
)
DOCS_URL: Variable[str | None] = _declare(
    "process",
    "docs_url",
    text("an http:// or https:// URL", r"https?://\S+"),
    None,
    "The address of the documentation, for example of a copy in your network. The status page "
    "contains a link to it.",
    process=True,
)
HTTP_LISTEN_ADDRESS = _declare(
    "process",
    "http_listen_address",
    text("an IPv4 or IPv6 address, localhost, * or unix:/path"),
    "0.0.0.0",  # noqa: S104
    "An IPv4 or IPv6 address, `localhost`, `*` for all IPv4 and IPv6 addresses, or `unix:/path` "
    "for a Unix-domain socket.",
    restart=True,
    process=True,
)
HTTP_PORT = _declare(
    "process", "http_port", whole(1, 65535), 8000, "The TCP port.", restart=True, process=True
)
HTTP_SOCKET_MODE = _declare(
    "process",
    "http_socket_mode",
    text("three octal digits, for example 660", "[0-7]{3}"),
    "660",
    "The file mode of the Unix-domain socket, octal.",
    restart=True,
    process=True,
)
HTTP_TOKEN_FILE: Variable[Path | None] = _declare(
    "process",
    "http_token_file",
    path("a readable file with one token per line"),
    None,
    "A file of bearer tokens, one per line. Requests must contain one of them (see "
    "[security.md](security.md)).",
    process=True,
)
HTTP_TLS_CERT: Variable[Path | None] = _declare(
    "process",
    "http_tls_cert",
    path(),
    None,
    "HTTPS: the certificate of this service, followed by intermediate certificates (PEM).",
    process=True,
)
HTTP_TLS_KEY: Variable[Path | None] = _declare(
    "process",
    "http_tls_key",
    path(),
    None,
    "HTTPS: its private key (PEM, without a passphrase).",
    process=True,
)
HTTP_TLS_CLIENT_CA: Variable[Path | None] = _declare(
    "process",
    "http_tls_client_ca",
    path(),
    None,
    "HTTPS: the certificate authorities of clients (PEM). Clients must present a certificate.",
    process=True,
)
LOG_LEVEL = _declare(
    "process",
    "log_level",
    one_of("debug", "info", "warning", "error", "fatal", warn="warning"),
    "info",
    "`debug`, `info`, `warning` (or `warn`), `error`, `fatal`, in any letter case.",
    process=True,
)
LOG_FORMAT = _declare(
    "process",
    "log_format",
    one_of("text", "json"),
    "text",
    "`text` or `json`, one line per message, on standard error.",
    restart=True,
    process=True,
)
STATE_FILE: Variable[Path | None] = _declare(
    "process",
    "state_file",
    path("a regular file in an existing directory"),
    None,
    "A file that keeps the newest timeline, so that an outdated master is not returned after a "
    "restart of pg-status either (see [failover.md](failover.md)). Its directory must exist. The "
    "Debian package sets it.",
)
ON_CHANGE: Variable[str | None] = _declare(
    "process",
    "on_change",
    text("a command and its arguments"),
    None,
    "A command that runs when the cluster has changed (see [hooks.md](hooks.md)). It is split into "
    "words as by a shell, but executed without a shell.",
)
ON_CHANGE_TIMEOUT_MS = _declare(
    "process",
    "on_change_timeout_ms",
    milliseconds(),
    30_000,
    "The command is terminated after this time, milliseconds.",
)
ENV_FILE: Variable[Path | None] = _declare(
    "process", "env_file", path(), None, "A file of variables (see below).", process=True
)

VARIABLES = tuple(_declared)


def variable_key(cluster: str) -> str:
    """The name of a cluster in the names of variables."""
    return re.sub(r"[-.]", "_", cluster)
