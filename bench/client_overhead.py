"""The cost of the sessions and of the client, per request and per question to pg-status.

``make bench-client``. It makes a real cluster and a real pg-status, measures in turns (so that
other load affects all alike) and prints the fastest round of each, in microseconds per call: this
process's CPU, the difference to the first line, and elapsed time, which includes the database and
pg-status and so depends on other load.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import httpcore2
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from tests.support.daemon import Daemon  # a script's imports are found from its own directory

from pgstatus.client import AsyncPgStatusClient, PgStatusClient
from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import PASSWORD, Cluster
from pgstatus.demo.network import Network, free_port
from pgstatus.sqlalchemy import ASGIHTTPDBSessionMiddleware, DBConnect, PgStatusCluster, db_session
from pgstatus.sqlalchemy.asgi_utils import Message, Receive, Scope, Send

ROUNDS = 15
REPEAT = 100
SELECT = text("SELECT 1")

Work = Callable[[], Awaitable[object]]


async def discard(_: Message) -> None:
    pass


async def nothing() -> Message:
    raise AssertionError("no body is read")


async def per_call(work: Work) -> tuple[float, float]:
    """Microseconds of this process's CPU and of the clock for one call, of REPEAT in a row."""
    cpu, clock = time.process_time(), time.perf_counter()
    for _ in range(REPEAT):
        await work()
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    return cpu / REPEAT * 1e6, clock / REPEAT * 1e6


async def compare(title: str, **works: Work) -> None:
    """Measure all in turns; the first is what the others are compared with."""
    for work in works.values():
        await per_call(work)
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            rounds[name].append(await per_call(work))
    sys.stdout.write(f"\n{title:48}  CPU   more   clock\n")
    first = None
    for name, figures in rounds.items():
        cpu, clock = (min(column) for column in zip(*figures, strict=True))
        first = cpu if first is None else first
        words = name.replace("__", ": ").replace("_", " ")
        sys.stdout.write(f"  {words:44}{cpu:7.1f}{cpu - first:+7.0f}{clock:8.1f}\n")


async def sessions(stack: AsyncExitStack, cluster: Cluster, url: str, driver: str) -> None:
    """A request that runs one query, or none, with plain sessions and with ours."""
    primary = cluster.primary
    dsn = f"postgresql+{driver}://postgres:{PASSWORD}@{primary.address}:{primary.port}/postgres"
    engine = create_async_engine(dsn)
    stack.push_async_callback(engine.dispose)
    maker = async_sessionmaker(engine, expire_on_commit=False)
    plain_connect = DBConnect(lambda _: engine, lambda _: maker, host=primary.address)
    following = PgStatusCluster(
        AsyncPgStatusClient(url),
        lambda host, port: create_async_engine(
            f"postgresql+{driver}://postgres:{PASSWORD}@{host}:{port}/postgres"
        ),
        lambda engine: async_sessionmaker(engine, expire_on_commit=False),
    )
    stack.push_async_callback(following.close)
    master = following.master()

    async def answer(send: Send) -> None:
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def by_hand(query: bool) -> Work:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            async with maker() as session:
                if query:
                    await session.execute(SELECT)
                    await session.commit()
            await answer(send)

        return lambda: app({"type": "http"}, nothing, discard)

    def ours(connect: DBConnect, query: bool) -> Work:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            session: AsyncSession = await db_session(connect)
            if query:
                await session.execute(SELECT)
            await answer(send)

        middleware = ASGIHTTPDBSessionMiddleware(app)
        return lambda: middleware({"type": "http"}, nothing, discard)

    for query in (False, True):
        await compare(
            f"a request, {driver}, {'one query and a commit' if query else 'a session unused'}",
            plain_session=by_hand(query),
            db_session_and_middleware=ours(plain_connect, query),
            the_same_following_pg_status=ours(master, query),
        )


async def questions(stack: AsyncExitStack, url: str) -> None:
    """A question to pg-status: the HTTP library alone, and our clients."""
    pool = await stack.enter_async_context(httpcore2.AsyncConnectionPool())
    options: dict[str, Any] = {"max_age": 0, "stale_if_error": 0, "watch": False}
    always = await stack.enter_async_context(AsyncPgStatusClient(url, **options))
    cached = await stack.enter_async_context(AsyncPgStatusClient(url, max_age=3600, watch=False))
    watching = await stack.enter_async_context(AsyncPgStatusClient(url))
    for ask in (watching.master, watching.replica, lambda: watching.replica(lag_ms=500)):
        await ask()
    await asyncio.sleep(1)  # until the notifications have begun
    headers = [("Host", "localhost"), ("Accept", "application/json")]
    await compare(
        "a question, asyncio",
        HTTP_library_alone=lambda: pool.request("GET", f"{url}/replica", headers=headers),
        asked_each_time=always.replica,
        reused_answer=cached.replica,
        from_memory__master=watching.master,
        from_memory__replica=watching.replica,
        from_memory__replica_with_a_limit=lambda: watching.replica(lag_ms=500),
    )
    threads_pool = httpcore2.ConnectionPool()
    stack.callback(threads_pool.close)
    threads_always = PgStatusClient(url, **options)
    threads_cached = PgStatusClient(url, max_age=3600, watch=False)
    threads_watching = PgStatusClient(url)
    for client in (threads_always, threads_cached, threads_watching):
        stack.callback(client.close)
    threads_watching.master()
    threads_watching.replica()
    await asyncio.sleep(1)

    def plain(ask: Callable[[], Any]) -> Work:
        async def work() -> None:
            ask()

        return work

    await compare(
        "a question, threads",
        HTTP_library_alone=plain(
            lambda: threads_pool.request("GET", f"{url}/replica", headers=headers)
        ),
        asked_each_time=plain(threads_always.replica),
        reused_answer=plain(threads_cached.replica),
        from_memory__master=plain(threads_watching.master),
        from_memory__replica=plain(threads_watching.replica),
    )


def main() -> None:
    with ExitStack() as undo:
        network = Network()
        undo.callback(network.release)
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="pg-status-bench-")))
        addresses = [network.address(last) for last in (2, 3)]
        cluster = Cluster(bundled("18"), directory, addresses, free_port(addresses, 5432))
        undo.callback(cluster.stop)
        cluster.start()
        variables = {"hosts": ",".join(addresses), "pg_port": cluster.primary.port}
        address = network.address(1)
        daemon = undo.enter_context(
            Daemon(
                directory / "daemon.log",
                variables,
                address=address,
                port=free_port([address], 8000),
            )
        )

        async def measure() -> None:
            async with AsyncExitStack() as stack:
                for driver in ("asyncpg", "psycopg"):
                    await sessions(stack, cluster, daemon.url, driver)
                await questions(stack, daemon.url)

        asyncio.run(measure())


if __name__ == "__main__":
    main()
