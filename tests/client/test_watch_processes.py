"""Programs that do not close their client, that fork, or that are stopped."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.client.notifier import NOT_FOUND, Notifier, host
from tests.client.support import answer
from tests.support.waiting import wait_until

COMMON = """
import asyncio, os, sys, threading, time, warnings
from pgstatus.client import AsyncPgStatusClient, PgStatusClient
url = sys.argv[1]
"""
THREADS = """
client, changed = PgStatusClient(url), threading.Event()
client.on_change(lambda answer: changed.set())
changed.wait()
"""
ASYNCIO = """
client = AsyncPgStatusClient(url)

async def main():
    changed = asyncio.Event()
    client.on_change(lambda answer: changed.set())
    await changed.wait()
    await anext(client.watch())

asyncio.run(main())
"""
# Without the cancellation of tasks that asyncio.run() does.
CLOSED_LOOPS = (
    ASYNCIO.rpartition("asyncio.run")[0]
    + """
for _ in range(2):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
"""
)


# asyncio's message about a busy machine.
SLOW = re.compile(r"Executing <.* took \d")


def command(program: str, notifier: Notifier) -> list[str]:
    """Any warning is an error, and asyncio is in debug mode."""
    return [sys.executable, "-X", "dev", "-W", "error", "-c", COMMON + program, notifier.url]


def run(program: str, notifier: Notifier) -> str:
    done = subprocess.run(
        command(program, notifier), check=False, capture_output=True, text=True, timeout=60
    )
    errors = [line for line in done.stderr.splitlines() if not SLOW.match(line)]
    assert (done.returncode, errors) == (0, [])
    return done.stdout


@pytest.mark.parametrize("program", [THREADS, ASYNCIO, CLOSED_LOOPS], ids=["t", "a", "loops"])
def test_a_program_ends_without_closing_the_client(notifier: Notifier, program: str) -> None:
    if program != THREADS:
        notifier.states["/watch"] = notifier.hosts("pg1:5432")
    run(program, notifier)


FORK = """
client = PgStatusClient(url, max_age=0, stale_if_error=0, deadline=10)
seen = []

def show(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def changed(answer):
    show(os.getpid(), answer.hosts[0].host)
    seen.append(answer.hosts[0].host)

def wait_for(name):
    while name not in seen:
        client.master()
        time.sleep(0.01)

client.on_change(changed)
wait_for("pg1")
# It has threads: those of the client.
warnings.filterwarnings("ignore", "This process", DeprecationWarning)
if child := os.fork():
    show("parent", os.getpid(), child)
    wait_for("pg2")
    os.waitpid(child, 0)
    wait_for("pg3")
else:
    wait_for("pg2")
    client.close()
    show("closed")
    while client.master().host != "pg3":
        time.sleep(0.01)
client.close()
"""


def test_a_forked_child_has_its_own_stream(notifier: Notifier, tmp_path: Path) -> None:
    """As with gunicorn's preload_app. Callbacks continue in both processes."""
    output = tmp_path / "output"

    def lines() -> list[str]:
        return output.read_text().splitlines()

    with (
        output.open("w") as file,
        subprocess.Popen(command(FORK, notifier), stdout=file, stderr=subprocess.STDOUT) as process,
        ExitStack() as undo,
    ):
        undo.callback(process.kill)
        wait_until(lambda: f"two streams: {lines()}", lambda: len(notifier.streams) == 2)
        notifier.set(host("pg2"))
        wait_until(lambda: f"the child has closed: {lines()}", lambda: "closed" in lines())
        notifier.set(host("pg3"))
        assert process.wait(60) == 0
    (pids,) = [line.split()[1:] for line in lines() if line.startswith("parent")]
    parent, child = pids
    assert {f"{parent} pg1", f"{parent} pg2", f"{parent} pg3", f"{child} pg2"} < {*lines()}
    assert f"{child} pg3" not in lines()  # it has closed the client


ASK_THREADS = """
client = PgStatusClient(url, max_age=0, stale_if_error=0)
for _ in sys.stdin:
    print(client.master().host, flush=True)
"""
# Reading blocks the event loop.
ASK_ASYNCIO = """
async def main():
    client = AsyncPgStatusClient(url, max_age=0, stale_if_error=0)
    for _ in sys.stdin:
        print((await client.master()).host, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("program", [ASK_THREADS, ASK_ASYNCIO], ids=["threads", "asyncio"])
def test_a_program_that_was_stopped_uses_no_outdated_answer(
    notifier: Notifier, program: str
) -> None:
    notifier.answer = answer(json.dumps(host("requested")).encode())
    with subprocess.Popen(
        command(program, notifier),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask() -> str:
            stdin.write("\n")
            stdin.flush()
            return stdout.readline().strip()

        def ask_after_a_stop(then: Callable[[], None], seconds: float = 0.1) -> str:
            process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            then()
            stdin.write("\n")
            stdin.flush()
            process.send_signal(signal.SIGCONT)
            return stdout.readline().strip()

        wait_until("an answer from memory", lambda: ask() == "pg1")
        # The process has not read it yet.
        assert ask_after_a_stop(lambda: notifier.set(host("pg2"))) in {"pg2", "requested"}
        wait_until("an answer from memory", lambda: ask() == "pg2")
        notifier.head = NOT_FOUND  # no other stream
        notifier.alive(fresh_ms=10)
        wait_until("a request", lambda: ask() == "requested")
        notifier.alive(fresh_ms=1500)
        wait_until("an answer from memory", lambda: ask() == "pg2")
        assert ask_after_a_stop(lambda: None, seconds=1.6) == "requested"
        stdin.close()
        process.wait(60)
