"""One committed write per 200 under real ASGI servers.

A server may start the task of a request in a copy of the context of an earlier one: uvicorn's
asyncio loop after a body of more than 64 KiB (cpython#140947), and every pipelined request.
"""

import asyncio
import re
import socket
from collections.abc import Iterator

import httpx
import pytest

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.sqlalchemy.servers import COMMANDS, ASGIServer
from tests.support.waiting import wait_until

MIDDLEWARES = ("asgi", "starlette", "dispatch", "fastapi")
# Every server with one middleware, and every middleware with the server that showed most faults.
PAIRS = [(server, "asgi") for server in COMMANDS] + [
    ("uvicorn-asyncio-httptools", middleware) for middleware in MIDDLEWARES[1:]
]
LARGE = 300_000


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def server(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    network: Network,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ASGIServer]:
    kind, middleware = request.param
    primary = cluster.primary
    served = f"{middleware} asyncpg {primary.address} {primary.port}"
    log = tmp_path_factory.mktemp("server") / "log"
    environment, host = {"SERVED": served}, network.address(1)
    with ASGIServer(kind, "tests.sqlalchemy.served:app", environment, log, host) as server:
        yield server


@pytest.fixture(autouse=True)
def _empty(cluster: Cluster) -> None:
    cluster.primary.sql("DELETE FROM note")  # a transaction left open would block TRUNCATE


def rows(cluster: Cluster) -> list[str]:
    return [body for (body,) in cluster.primary.sql("SELECT body FROM note ORDER BY body")]


def request_bytes(path: str, body: bytes = b"") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def exchange(address: tuple[str, int], data: bytes, responses: int) -> list[int]:
    """Send everything at once on one connection; the status of each response."""
    received = b""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(data)
        while len(statuses := re.findall(rb"HTTP/1.1 (\d+) ", received)) < responses or (
            not received.endswith((b"written", b"early", b"0\r\n\r\n"))
        ):
            more = connection.recv(65536)
            if not more:
                break
            received += more
    return [int(status) for status in statuses]


def test_one_row_per_200_after_large_bodies_on_one_connection(
    server: ASGIServer, cluster: Cluster
) -> None:
    with httpx.Client(base_url=server.url) as client:
        statuses = [
            client.post("/write", params={"name": f"{n}"}, content=b"x" * LARGE).status_code
            for n in range(5)
        ]
        assert client.post("/write", params={"name": "small"}).status_code == 200
    assert statuses == [200] * 5
    assert rows(cluster) == [*(f"{n} {LARGE}" for n in range(5)), "small 0"]


@pytest.mark.parametrize("path", ["/write", "/mounted/write", "/stream", "/beside"])
def test_one_row_per_200_of_pipelined_requests(
    server: ASGIServer, cluster: Cluster, path: str
) -> None:
    data = b"".join(request_bytes(f"{path}?name={n}&pause=0.01") for n in range(5))
    assert exchange(server.address, data, 5) == [200] * 5
    suffix = " 0" if path.endswith("write") else ""
    expected = [f"{n}{suffix}" for n in range(5)]
    if path == "/beside":
        expected += [f"{n} beside" for n in range(5) for _ in range(2)]
    # A streamed response may end before its transaction is committed.
    wait_until("all rows are committed", lambda: rows(cluster) == sorted(expected))


def test_pipelined_requests_end_by_their_own_status(server: ASGIServer, cluster: Cluster) -> None:
    paths = ["/write?name=a", "/write?name=b&status=400", "/early?name=c", "/write?name=d"]
    data = b"".join(request_bytes(path) for path in paths)
    assert exchange(server.address, data, 4) == [200, 400, 409, 200]
    assert rows(cluster) == ["a 0", "c", "d 0"]


def test_background_tasks_on_one_connection(server: ASGIServer, cluster: Cluster) -> None:
    with httpx.Client(base_url=server.url) as client:
        for n in range(3):
            answer = client.post("/background", params={"name": f"{n}"}, content=b"x" * LARGE)
            assert answer.status_code == 200
        assert client.post("/write", params={"name": "last"}).status_code == 200
    written = [row for row in rows(cluster) if "background" not in row]
    assert written == ["0", "1", "2", "last 0"]


async def _aborted(url: str, count: int) -> list[int]:
    """Clients that leave while they are served, between others that stay."""

    async def one(n: int) -> int:
        timeout = 0.02 if n % 2 else 20
        try:
            async with httpx.AsyncClient(timeout=timeout) as client:
                path = f"/write?name={n}&pause=0.1"
                return (await client.post(url + path, content=b"x" * LARGE)).status_code
        except httpx.HTTPError:
            return 0

    return await asyncio.gather(*(one(n) for n in range(count)))


def test_clients_that_disconnect(server: ASGIServer, cluster: Cluster) -> None:
    statuses = asyncio.run(_aborted(server.url, 20))
    stayed = [f"{n} {LARGE}" for n, status in enumerate(statuses) if status == 200]
    assert len(stayed) >= 10
    assert set(stayed) <= set(rows(cluster))
    assert len(rows(cluster)) == len(set(rows(cluster)))
    with httpx.Client(base_url=server.url) as client:
        assert client.post("/write", params={"name": "after"}).status_code == 200


def test_a_websocket_on_a_used_connection_has_no_context(
    server: ASGIServer, cluster: Cluster
) -> None:
    upgrade = (
        b"GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(request_bytes("/write?name=first", b"x" * LARGE))
        received = b""
        while not received.endswith(b"written"):
            received += connection.recv(65536)
        connection.sendall(upgrade)
        received = b""
        while b"False" not in received:
            more = connection.recv(65536)
            assert more, received
            received += more
    assert rows(cluster) == [f"first {LARGE}"]
