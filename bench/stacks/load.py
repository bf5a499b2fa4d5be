"""The process of one stack: ``python -m bench.stacks.load``, started by `bench.stacks`.

It reads its task from the first line of the standard input, works until a second line comes or all
pairs are done, and writes the operations to the standard output.
"""

import asyncio
import importlib
import inspect
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.stacks.stack import Place, Read

# As a client does after an error.
AFTER_ERROR_SECONDS = 0.01


class Operation(NamedTuple):
    """``began`` and ``ended``: times of the monotonic clock. ``error``: its class, or empty."""

    kind: str
    began: float
    ended: float
    error: str
    message: str
    found: bool
    host: str


@dataclass(frozen=True)
class Task:
    """What to do: each user writes and reads in turn.

    first: the first value to write; the stacks write to the same table.
    pause: seconds between two pairs. pairs: how many, 0: until the end of the scenario.
    """

    stack: str
    place: Place
    first: int
    pause: float
    pairs: int


class Load:
    def __init__(self, task: Task, stack: Any) -> None:
        self.task = task
        self.stack = stack
        self.operations: list[Operation] = []
        self.stopping = threading.Event()

    async def run(self) -> None:
        threads = ThreadPoolExecutor(self.task.place.users)
        loop = asyncio.get_running_loop()

        async def call(function: Callable[..., Any], *arguments: Any) -> Any:
            if inspect.iscoroutinefunction(function):
                return await function(*arguments)
            return await loop.run_in_executor(threads, function, *arguments)

        async def operate(kind: str, function: Callable[..., Any], *arguments: Any) -> Any:
            began = time.monotonic()
            result, error, message = None, "", ""
            try:
                result = await call(function, *arguments)
            except Exception as raised:
                error, message = _name(raised), str(raised)
                await asyncio.sleep(AFTER_ERROR_SECONDS)
            read = result if isinstance(result, Read) else Read(found=False, host="")
            ended = time.monotonic()
            self.operations.append(Operation(kind, began, ended, error, message, *read))
            return result, not error

        async def user(number: int) -> None:
            users = self.task.place.users
            value = self.task.first + number
            for _ in range(-(-self.task.pairs // users) or sys.maxsize):
                if self.stopping.is_set():
                    return
                value += users
                bookmark, is_done = await operate("write", self.stack.write, value)
                if is_done:
                    await operate("read", self.stack.read, value, bookmark)
                await asyncio.sleep(self.task.pause)

        await asyncio.gather(*(user(number) for number in range(self.task.place.users)))
        await call(self.stack.close)


def _name(error: Exception) -> str:
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    return f"{type(error).__name__} {state}" if state else type(error).__name__


async def work(task: Task) -> None:
    opened = importlib.import_module(f"bench.stacks.{task.stack}").open_stack(task.place)
    load = Load(task, await opened if inspect.isawaitable(opened) else opened)

    def wait_for_the_end() -> None:
        if sys.stdin.readline() or not task.pairs:
            load.stopping.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await load.run()
    json.dump(load.operations, sys.stdout)


def main() -> None:
    logging.disable(logging.WARNING)
    fields = json.loads(sys.stdin.readline())
    place = Place(**fields.pop("place"))
    asyncio.run(work(Task(place=place, **fields)))


if __name__ == "__main__":
    main()
