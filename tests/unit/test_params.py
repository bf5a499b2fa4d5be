"""Parameters and headers of requests: media types, host names, tokens."""

from collections.abc import Sequence
from dataclasses import replace

import httpx
import pytest

from pgstatus.api import create_app
from pgstatus.api.params import accepts_json
from pgstatus.core.snapshot import Snapshot
from tests.support.serving import daemon, service
from tests.support.world import World, master, refused, replica

CLUSTER = World().see_all(a=master(0), b=replica(0), c=replica(0)).snapshot


def client(snapshot: Snapshot = CLUSTER, tokens: Sequence[bytes] = ()) -> httpx.Client:
    app = create_app(
        daemon(replace(service(lambda: snapshot), now=lambda: 0.0), tokens=lambda: tokens)
    )
    return httpx.Client(transport=httpx.WSGITransport(app), base_url="http://pg-status")


def with_hosts(*names: tuple[str, int]) -> Snapshot:
    hosts = tuple(
        replace(status, host=replace(status.host, name=name, port=port))
        for status, (name, port) in zip(CLUSTER.hosts, names, strict=True)
    )
    return replace(CLUSTER, hosts=hosts)


@pytest.mark.parametrize(
    "accept",
    [
        "application/json", "application/json, text/plain, */*", "text/plain, application/json",
        "*/*, application/json;q=0.001", "text/plain;q=1,Application/JSON ; charset=utf-8;q=0.1",
        "application/json;q=1.0", "application/json;q=nonsense", "application/*",
    ],
)  # fmt: skip
def test_json_is_returned_where_it_is_named(accept: str) -> None:
    assert accepts_json(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "", "*/*", "text/html", "application/jsonp", "application/json;q=0",
        "application/json;q=0.000",
        "text/plain, application/json;q=0", "application/json; Q = 0., */*", "x-application/json",
        "application/json-seq", ";;;", "application/*;q=0.1, text/plain",
    ],
)  # fmt: skip
def test_text_is_returned_otherwise(accept: str) -> None:
    assert not accepts_json(accept)


@pytest.mark.parametrize("name", ["PG1.example", "pg1.EXAMPLE:5432", "Pg1.Example"])
def test_letter_case_of_host_names_does_not_matter(name: str) -> None:
    http = client(with_hosts(("pg1.Example", 5432), ("pg2", 5432), ("/run/A", 5432)))
    assert http.get("/status", params={"host": name}).json()["role"] == "master"
    assert http.get("/is_master", params={"host": name}).status_code == 200
    assert http.get("/status", params={"host": "/run/A"}).status_code == 200
    assert http.get("/status", params={"host": "/run/a"}).status_code == 404


def test_status_of_a_shared_name_is_that_of_the_first_host() -> None:
    http = client(with_hosts(("a", 5432), ("a", 5433), ("b", 5432)))
    assert http.get("/status?host=A").json()["port"] == 5432
    assert http.get("/status?host=a:5433").json()["port"] == 5433
    assert http.get("/is_alive?host=a").status_code == 400


def test_a_missing_and_an_invalid_token() -> None:
    http = client(tokens=[b"x" * 20])
    missing = http.get("/master")
    assert missing.status_code == 401
    assert missing.json()["error_text"].startswith("token required")
    assert "error=" not in missing.headers["www-authenticate"]
    invalid = http.get("/master", headers={"Authorization": "Bearer " + "y" * 20})
    assert (invalid.status_code, invalid.json()) == (401, {"error_text": "invalid token"})
    assert 'error="invalid_token"' in invalid.headers["www-authenticate"]
    assert http.get("/master", headers={"Authorization": "Bearer " + "x" * 20}).text == "a"


@pytest.mark.parametrize("value", ["", "slave", "MASTER", "master&fallback=none"])
def test_an_invalid_fallback(value: str) -> None:
    response = client().get(f"/replica?fallback={value}")
    assert (response.status_code, response.json()) == (400, {"error_text": "Invalid fallback"})


def test_fallbacks_of_a_request() -> None:
    """No replica has replayed this position; replica `b` is down."""
    http = client(World().see_all(a=master(0), b=refused(0), c=replica(0)).snapshot)
    question = "/replica?min_lsn=F/0&wait_ms=0"
    assert http.get(question).text == "a"
    assert http.get(f"{question}&fallback=master").text == "a"
    assert http.get(f"{question}&fallback=stale").text == "a"
    assert http.get(f"{question}&fallback=none").status_code == 404
