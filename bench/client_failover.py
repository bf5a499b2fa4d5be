"""The effect of a crash of the primary, and of a promotion, on the users of a service.

``python -m bench.client_failover [users]`` starts the demo (`pg-status demo`), the service of
``examples/fastapi`` under uvicorn, lets users write and read without a pause, and then runs
`pg-status failover`. It prints how many requests failed and for how long.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from pgstatus.demo.network import free_port

ROOT = Path(__file__).parent.parent
BEFORE, AFTER = 3.0, 9.0
DEMO_PATIENCE = 60


class Tally:
    """Requests of one kind, with the time of each failure since the crash."""

    def __init__(self) -> None:
        self.served = 0
        self.failures: list[float] = []
        self.reasons: set[str] = set()
        self.lost = 0
        self.slowest = 0.0

    def line(self, name: str) -> str:
        words = f"{name}: {self.served} served, {len(self.failures)} failed"
        if self.failures:
            words += (
                f" between {min(self.failures):.2f} and {max(self.failures):.2f} s after the crash"
                f" ({', '.join(sorted(self.reasons))})"
            )
        words += f", the slowest took {self.slowest:.2f} s"
        return words + (f", {self.lost} not found" if self.lost else "")


async def user(url: str, crash: asyncio.Future[float], writes: Tally, reads: Tally) -> None:
    """Write a note and read it, again and again, until AFTER seconds after the crash."""
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:
        while not crash.done() or time.monotonic() < crash.result() + AFTER:
            written = await ask(client, "POST", "/notes?body=x", crash, writes)
            if written is not None:
                note = written.json()["id"]
                read = await ask(client, "GET", f"/notes/{note}", crash, reads)
                reads.lost += read is not None and read.status_code == 404


async def ask(
    client: httpx.AsyncClient, method: str, path: str, crash: asyncio.Future[float], tally: Tally
) -> httpx.Response | None:
    began = time.monotonic()
    try:
        answer = await client.request(method, path)
        tally.slowest = max(tally.slowest, time.monotonic() - began)
        if answer.status_code < 500:
            tally.served += 1
            return answer
        reason = str(answer.status_code)
    except httpx.HTTPError as error:
        reason = type(error).__name__
    tally.failures.append(time.monotonic() - (crash.result() if crash.done() else time.monotonic()))
    tally.reasons.add(reason)
    # As a client does after a 503 with Retry-After.
    await asyncio.sleep(0.01)
    return None


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEMO_PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url).status_code < 500:
                return
        time.sleep(0.1)
    raise SystemExit(f"no response from {url}")


def start(undo: ExitStack, *arguments: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    undo.callback(process.wait, 30)
    undo.callback(process.terminate)
    return process


async def measure(service: str, users: int, environment: dict[str, str]) -> None:
    crash: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    writes, reads = Tally(), Tally()
    async with asyncio.TaskGroup() as group:
        for _ in range(users):
            group.create_task(user(service, crash, writes, reads))
        await asyncio.sleep(BEFORE)
        failover = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "pgstatus", "failover"],
            env=environment,
            stdout=asyncio.subprocess.PIPE,
        )
        assert failover.stdout is not None
        await failover.stdout.readline()  # printed immediately before the crash
        crash.set_result(time.monotonic())
        words = (await failover.stdout.read()).decode()
        await failover.wait()
    sys.stdout.write(words + writes.line("writes") + "\n" + reads.line("reads") + "\n")


def main() -> None:
    with ExitStack() as undo:
        # A separate demo, in case another one is running.
        directory = undo.enter_context(tempfile.TemporaryDirectory(prefix="pg-status-bench-"))
        Path(directory).chmod(0o755)
        demo_port = free_port(["127.0.0.1"], 8300)
        service_port = free_port(["127.0.0.1"], 8400)
        url, service = f"http://127.0.0.1:{demo_port}", f"http://127.0.0.1:{service_port}"
        environment = {**os.environ, "TMPDIR": directory, "PG_STATUS_URL": url}
        demo = start(undo, "pgstatus", "demo", "--port", str(demo_port), environment=environment)
        wait_for(f"{url}/master", demo)
        uvicorn = ("uvicorn", "examples.fastapi.app:app", "--port", str(service_port))
        web = start(undo, *uvicorn, "--log-level", "critical", environment=environment)
        wait_for(f"{service}/notes/0", web)
        users = int(sys.argv[1]) if len(sys.argv) > 1 else 4
        asyncio.run(measure(service, users, environment))


if __name__ == "__main__":
    main()
