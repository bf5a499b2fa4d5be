"""Paths, parameters and representations of the Falcon application, with prepared snapshots."""

import json
from dataclasses import replace
from typing import Any
from wsgiref.util import setup_testing_defaults

import httpx
import pytest

from pgstatus.api import Application, Daemon, create_app
from pgstatus.api.exchange import Exchange, Response
from pgstatus.core.election import SplitBrain
from pgstatus.core.render import HostFormat, host_text
from pgstatus.core.selection import Kind
from pgstatus.core.snapshot import Host, HostStatus, Snapshot
from pgstatus.core.state import Rules
from pgstatus.settings.libpq import parse_uri
from tests.support.serving import daemon, service
from tests.support.world import World, master, refused, replica

SELECTIONS = [f"/{kind}" for kind in Kind]
EXPLANATIONS = [f"/explain/{kind}" for kind in Kind]
CHECKS = ["/is_master?host=a", "/is_replica?host=b", "/is_alive?host=a"]
ABOUT_HOSTS = [
    *SELECTIONS, *EXPLANATIONS, *CHECKS, "/hosts", "/status?host=a", "/replicas_info", "/health",
]  # fmt: skip
ALL = [*ABOUT_HOSTS, "/version", "/live", "/ready"]


class Asked:
    """The application with one snapshot at one time."""

    def __init__(self, snapshot: Snapshot, now: float = 0.0, of: Daemon | None = None) -> None:
        only = replace(service(lambda: snapshot), now=lambda: now)
        app = create_app(of or daemon(only))
        # Not falcon.testing: its validator requires a Content-Type for empty responses.
        self.client = httpx.Client(
            transport=httpx.WSGITransport(app), base_url="http://pg-status", headers={"Accept": ""}
        )
        del self.client.headers["Accept"]

    def __call__(
        self,
        path: str,
        accept: str | None = None,
        method: str = "GET",
        authorization: str | None = None,
    ) -> httpx.Response:
        headers = {} if accept is None else {"Accept": accept}
        if authorization is not None:
            headers["Authorization"] = authorization
        return self.client.request(method, path, headers=headers)


CLUSTER = World().see_all(a=master(0), b=replica(0, 0x3000060), c=replica(0)).snapshot
ask = Asked(CLUSTER)


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        (None, False),
        ("*/*", False),
        ("text/plain", False),
        ("application/json", True),
        ("application/*", True),
        ("APPLICATION/JSON", True),
        ("application/json;q=0.5, text/plain;q=0.4", True),
        ("application/json;q=0.4, text/plain;q=0.5", True),
        ("application/json;q=0", False),
        ("text/html, application/json", True),
        ("application/json, */*", True),
        ("application/json, */*;q=0.1", True),
        ("text/plain, application/json", True),
        ("application/jsonp", False),
        ("text/html", False),
        ("", False),
        (";;;", False),
    ],
)
def test_accept_is_parsed(accept: str | None, is_json: bool) -> None:
    result = ask("/master", accept)
    expected = "application/json" if is_json else "text/plain; charset=utf-8"
    assert result.headers["content-type"] == expected
    assert result.status_code == 200


def test_selection_in_json() -> None:
    assert ask("/replica?min_lsn=0/3000060", "application/json").json() == {
        "host": "b", "port": 5432, "role": "replica", "lag_ms": 1, "lag_bytes": 0,
        "lsn": "0/3000060", "dc": None, "geo": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "a"),
        ("?format=host", "a"),
        ("?format=hostport", "a:5432"),
        ("?format=uri", "postgresql://a:5432"),
    ],
)
def test_formats_of_text(query: str, text: str) -> None:
    assert ask(f"/master{query}").text == text


def test_the_uri_of_a_socket_directory_is_valid() -> None:
    directory = HostStatus(Host("/run/postgresql", 5432))
    assert parse_uri(host_text(directory, HostFormat.URI), {}) == {
        "host": "/run/postgresql", "port": "5432",
    }  # fmt: skip


@pytest.mark.parametrize("path", SELECTIONS)
def test_no_eligible_host_is_404(path: str) -> None:
    no_host = Asked(World(1).see("a", refused(0)).snapshot)
    result = no_host(path)
    assert (result.status_code, result.text) == (404, "")
    assert "content-type" not in result.headers
    result = no_host(path, "application/json")
    assert result.status_code == 404
    assert result.json()["host"] is None
    assert result.json()["reason"] == "no live host is a master"


@pytest.mark.parametrize("path", [path for path in SELECTIONS if path != "/master"])
@pytest.mark.parametrize("name", ["lag_ms", "lag_bytes"])
@pytest.mark.parametrize(
    "value", ["", "-1", "%2B1", "1.0", "ten", "0x1", "1_0", "%201", "18446744073709551616", "٣"]
)
def test_an_invalid_limit_is_400(path: str, name: str, value: str) -> None:
    result = ask(f"{path}?{name}={value}")
    assert (result.status_code, result.json()) == (400, {"error_text": f"Invalid {name}"})


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1",
        "1/2/3",
        "G/0",
        "-1/0",
        "0/123456789",
        "%200/1",
        ":0/1",
        "0:0/1",
        "x:0/1",
        "4294967296:0/1",
    ],
)
def test_an_invalid_min_lsn_is_400(value: str) -> None:
    result = ask(f"/replica?min_lsn={value}")
    assert (result.status_code, result.json()) == (400, {"error_text": "Invalid min_lsn"})


@pytest.mark.parametrize(
    "query",
    [
        "lag_ms=0",
        "lag_ms=18446744073709551615",
        "min_lsn=0%2F1",
        "min_lsn=1:0/1",
        "unknown=1",
        "wait_ms=10000",
        "lag_bytes=007",
    ],
)
def test_valid_limits(query: str) -> None:
    assert ask(f"/replica?{query}").status_code == 200


def test_a_limit_given_twice_is_400() -> None:
    assert ask("/replica?lag_ms=1&lag_ms=2").json() == {"error_text": "Invalid lag_ms"}


@pytest.mark.parametrize("value", ["", "-1", "10001", "x"])
def test_an_invalid_wait_ms_is_400(value: str) -> None:
    assert ask(f"/replica?min_lsn=0/1&wait_ms={value}").json() == {"error_text": "Invalid wait_ms"}


def test_an_invalid_wait_ms_is_400_without_min_lsn() -> None:
    assert ask("/replica?wait_ms=x").json() == {"error_text": "Invalid wait_ms"}


@pytest.mark.parametrize("query", ["format=xml", "format=", "format=uri&format=host"])
def test_an_invalid_format_is_400(query: str) -> None:
    assert ask(f"/master?{query}").json() == {"error_text": "Invalid format"}


def test_status_of_a_host() -> None:
    assert ask("/status?host=b").json()["role"] == "replica"
    assert ask("/status?host=b:5432").json()["role"] == "replica"
    assert "host" not in ask("/status?host=b").json()
    for missing in ("/status", "/status?host="):
        result = ask(missing)
        assert (result.status_code, result.json()) == (
            400, {"error_text": "Get parameter 'host' wasn't passed"},
        )  # fmt: skip
    assert ask("/status?host=a&host=b").json() == {"error_text": "Invalid host"}
    for unknown in ("z", "b:1"):
        result = ask(f"/status?host={unknown}")
        assert (result.status_code, result.text) == (404, "")
        assert "content-type" not in result.headers


def status_of(snapshot: Snapshot, path: str, method: str = "GET") -> int:
    return Asked(snapshot)(path, method=method).status_code


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize(
    ("path", "good"),
    [
        ("/is_master?host=a", True),
        ("/is_master?host=a:5432", True),
        ("/is_master?host=b", False),
        ("/is_replica?host=a", False),
        ("/is_replica?host=b", True),
        ("/is_replica?host=c&min_lsn=0/3000060", False),
        ("/is_replica?host=b&min_lsn=0/3000060", True),
        ("/is_replica?host=b&lag_ms=0", False),
        ("/is_replica?host=b&lag_ms=1&lag_bytes=0", True),
        ("/is_alive?host=a", True),
        ("/is_alive?host=c", True),
    ],
)
def test_load_balancer_checks(path: str, good: bool, method: str) -> None:
    assert status_of(CLUSTER, path, method) == (200 if good else 503)


def test_a_master_on_an_older_timeline_than_requested_is_404_with_the_reason() -> None:
    alone = Asked(World().see_all(a=master(0), b=refused(0), c=refused(0)).snapshot)
    reason = "a:5432: master on timeline 1, timeline 2 is required"
    result = alone("/replica?min_lsn=2:0/1&wait_ms=0", "application/json")
    assert (result.status_code, result.json()["reason"]) == (404, reason)


def test_a_failed_check_has_a_reason() -> None:
    assert ask("/is_master?host=b").json() == {"error_text": "b:5432: replica, not master"}
    late = ask("/is_replica?host=b&lag_ms=0").json()
    assert late == {"error_text": "b:5432: 1 ms behind (limit 0 ms)"}


@pytest.mark.parametrize("path", ["/is_master", "/is_replica", "/is_alive"])
def test_checks_without_host_and_of_an_unknown_host(path: str) -> None:
    assert ask(path).json() == {"error_text": "Get parameter 'host' wasn't passed"}
    assert [ask(path).status_code, ask(f"{path}?host=z").status_code] == [400, 404]


def test_an_invalid_limit_of_a_check_is_400() -> None:
    assert ask("/is_replica?host=b&lag_ms=x").json() == {"error_text": "Invalid lag_ms"}


def test_a_possibly_dead_replica_is_used_if_no_other_is_eligible() -> None:
    story = World().see_all(a=master(0), b=replica(0, 0x3000060), c=replica(0))
    story.see("b", refused(5))
    paths = ["/is_replica?host=b", "/is_replica?host=c", "/is_replica?host=b&min_lsn=0/3000060"]
    assert [status_of(story.snapshot, path) for path in paths] == [503, 200, 200]
    assert status_of(story.snapshot, "/is_alive?host=b") == 200
    for at in (10, 15):
        story.see("b", refused(at))
    assert status_of(story.snapshot, "/is_alive?host=b") == 503


def test_a_name_shared_by_two_hosts_requires_the_port() -> None:
    twice = replace(
        CLUSTER, hosts=tuple(replace(s, host=replace(s.host, name="a", port=5432 + i))
                             for i, s in enumerate(CLUSTER.hosts)))  # fmt: skip
    for path in ("/is_master", "/is_replica", "/is_alive"):
        assert Asked(twice)(f"{path}?host=a").json() == {
            "error_text": "host=a is ambiguous: name the port, as in a:5432 or a:5433 or a:5434"
        }
    assert status_of(twice, "/is_master?host=a:5432") == 200
    assert status_of(twice, "/is_master?host=a:5433") == 503


def test_an_explanation() -> None:
    assert ask("/explain/replica?min_lsn=0/3000060").text.splitlines() == [
        "- a:5432 is the master: used only if no healthy replica is within the limits",
        "+ b:5432 within the limits",
        "- c:5432 replayed position 0/3E8, 0/3000060 is required",
    ]
    assert ask("/explain/master", "application/json").json() == [
        {"host": "a", "port": 5432, "chosen": True, "why": "is the master"},
        {"host": "b", "port": 5432, "chosen": False, "why": "replica, not master"},
        {"host": "c", "port": 5432, "chosen": False, "why": "replica, not master"},
    ]
    assert ask("/explain/replica?lag_ms=x").json() == {"error_text": "Invalid lag_ms"}
    assert "as in /explain/replica?lag_ms=50" in ask("/explain").json()["error_text"]
    assert ask("/explain/nothing").status_code == 404


def test_replicas_info_lists_live_replicas() -> None:
    assert ask("/replicas_info").json() == [{"host": "b"}, {"host": "c"}]


@pytest.mark.parametrize("path", ["/hosts", "/status?host=b", "/replicas_info"])
def test_always_json(path: str) -> None:
    assert ask(path, "text/plain").headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", [*ABOUT_HOSTS, "/replica?lag_ms=x", "/status", "/master?format=x"])
def test_not_ready_is_503(path: str) -> None:
    result = Asked(World().snapshot)(path)
    text = "not ready: not every host has been checked yet"
    assert (result.status_code, result.json()) == (503, {"error_text": text})


NOT_CHECKED = "not every host has been checked yet"
WITH_UPSTREAM = f"{NOT_CHECKED}; http://w1:8000: Connection refused"
LOST = (("http://w1:8000", "Connection refused"), ("http://w2:8000", None))


def _of_clusters(names: list[str], **more: object) -> Asked:
    """Of several clusters, and only of them, none of which is ready, at a relay."""
    snapshot = replace(World().snapshot, no_master=WITH_UPSTREAM, sources=LOST)
    clusters = dict.fromkeys(names, service(lambda: snapshot))
    return Asked(
        snapshot, of=replace(daemon(clusters[names[0]], **more), clusters=lambda: clusters)
    )


def test_why_clusters_are_not_ready() -> None:
    several = _of_clusters(["orders", "users"])
    text = f"not ready: orders: {WITH_UPSTREAM}, users: {WITH_UPSTREAM}"
    assert several("/ready").json() == {"error_text": text}
    assert several("/c/users/ready").json() == {"error_text": f"not ready: {WITH_UPSTREAM}"}
    many = _of_clusters([f"c{number}" for number in range(12)])("/ready").json()["error_text"]
    assert many.endswith(f"c9: {WITH_UPSTREAM} and 2 more (see /clusters)")


@pytest.mark.parametrize("names", [["orders"], ["orders", "users"]])
def test_the_probes_disclose_no_names_without_a_token(names: list[str]) -> None:
    guarded = _of_clusters(names, tokens=lambda: [b"secret"])
    paths = ["/ready", "/c/orders/ready", "/c/orders/health"]
    for path in [*paths, "/health"] if len(names) == 1 else paths:
        for wrong in (None, "Bearer wrong"):
            response = guarded(path, authorization=wrong)
            expected = {"error_text": f"not ready: {NOT_CHECKED}"}
            assert (response.status_code, response.json()) == (503, expected)
        assert WITH_UPSTREAM in guarded(path, authorization="Bearer secret").text


def test_the_probes_disclose_no_names_without_a_client_certificate() -> None:
    snapshot = replace(World().snapshot, no_master=WITH_UPSTREAM, sources=LOST)
    application = Application(create_app(daemon(service(lambda: snapshot))))
    for missing, text in ((True, NOT_CHECKED), (False, WITH_UPSTREAM)):
        environ: dict[str, Any] = {"PATH_INFO": "/ready"}
        setup_testing_defaults(environ)
        response = application.respond(environ, Exchange(certificate_missing=missing))
        assert isinstance(response, Response)
        assert json.loads(response.body) == {"error_text": f"not ready: {text}"}


def test_live_and_version_do_not_depend_on_the_state() -> None:
    starting = Asked(World().snapshot)
    assert [starting(p).status_code for p in ("/live", "/version", "/ready")] == [200, 200, 503]


@pytest.mark.parametrize("path", ABOUT_HOSTS)
def test_a_stale_state_is_503(path: str) -> None:
    assert Asked(CLUSTER, now=30)(path).status_code == 200
    result = Asked(CLUSTER, now=31)(path)
    assert result.status_code == 503
    assert "too old" in result.json()["error_text"]


def test_health() -> None:
    replicas_only = World().see_all(a=refused(0), b=replica(0), c=refused(0)).snapshot
    all_dead = World().see_all(a=refused(0), b=refused(0), c=refused(0)).snapshot
    assert [Asked(s)("/health").status_code for s in (CLUSTER, replicas_only, all_dead)] == [
        200, 200, 503,
    ]  # fmt: skip


def test_a_split_brain_with_policy_none_is_503_with_both_names() -> None:
    world = World(rules=Rules(split_brain=SplitBrain.NONE))
    world.see_all(a=master(0), b=master(0, timeline=2), c=replica(0))
    result = Asked(world.snapshot)("/master")
    claims = "split brain: several masters: a:5432 (timeline 1), b:5432 (timeline 2)"
    assert (result.status_code, result.json()) == (
        503,
        {
            "error_text": claims,
            "split_brain": ["a:5432", "b:5432"],
        },
    )
    (line, *_) = Asked(world.snapshot)("/explain/master").text.splitlines()
    assert line == f"- a:5432 {claims}"


@pytest.mark.parametrize("path", ALL)
def test_methods(path: str) -> None:
    get, head = ask(path), ask(path, method="HEAD")
    assert head.text == ""
    assert head.status_code == get.status_code
    assert head.headers["content-length"] == get.headers["content-length"]
    assert head.headers["content-type"] == get.headers["content-type"]
    options = ask(path, method="OPTIONS")
    if path in CHECKS:
        assert options.status_code == get.status_code
    else:
        assert (options.status_code, options.text) == (204, "")
        assert options.headers["allow"] == "GET, HEAD, OPTIONS"
    for method in ("POST", "PUT", "DELETE", "PATCH", "PROPFIND", "BREW"):
        other = ask(path, method=method)
        assert (other.status_code, other.text) == (405, "")
        assert set(other.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
        assert "content-type" not in other.headers


@pytest.mark.parametrize("path", ["/nothing", "/master/", "/Master", "/master//x", "/masters"])
def test_unknown_paths(path: str) -> None:
    result = ask(path)
    assert (result.status_code, result.text) == (404, "")
    assert "content-type" not in result.headers


@pytest.mark.parametrize("path", [*ALL, "/nothing", "/status"])
def test_responses_are_not_to_be_stored(path: str) -> None:
    assert ask(path).headers["cache-control"] == "no-store"


def test_json_responses_are_valid_json() -> None:
    hosts = json.loads(ask("/hosts").text)
    assert [host["host"] for host in hosts] == ["a", "b", "c"]
    assert hosts[0]["checked_at"] == "2026-01-01T12:00:00.000Z"
