"""nats-server processes, watchers that publish through them, and followers of the evidence."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from pgstatus.demo.network import Network
from pgstatus.settings.variables import PREFIX
from tests.nats.following import Following, nats_settings
from tests.nats.watching import Watcher
from tests.support.nats import PROGRAM, NatsCluster
from tests.support.waiting import wait_until

WatcherFactory = Callable[..., Watcher]
FollowingFactory = Callable[..., Following]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if PROGRAM is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="nats-server is not installed"))


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    caplog.set_level(logging.INFO, "pgstatus")


@pytest.fixture(scope="module")
def servers(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    """Three servers that the tests must not break."""
    with NatsCluster(tmp_path_factory.mktemp("nats"), network) as servers:
        yield servers


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    with ExitStack() as undo:
        yield undo


@pytest.fixture
def start_watcher(undo: ExitStack, tmp_path: Path) -> WatcherFactory:
    """``start_watcher(variables, "w1", cluster="orders")``; it is connected, and its log contains
    no traceback at the end.
    """

    def start(
        variables: dict[str, object],
        name: str = "w1",
        cluster: str = "orders",
        *,
        connected: bool = True,
        **options: object,
    ) -> Watcher:
        watcher = Watcher(tmp_path / f"{name}.log", cluster, name, variables, **options)  # type: ignore[arg-type]
        undo.enter_context(watcher if connected else watcher.launched())
        undo.callback(_assert_no_traceback, watcher)
        return watcher

    return start


@pytest.fixture
def follow(undo: ExitStack) -> FollowingFactory:
    """``follow(variables, cluster="orders")``."""

    def start(variables: dict[str, object], cluster: str = "orders") -> Following:
        environ = {f"{PREFIX}{name}": str(value) for name, value in variables.items()}
        return undo.enter_context(Following(cluster, nats_settings(environ)))

    return start


def _assert_no_traceback(watcher: Watcher) -> None:
    assert "Traceback" not in watcher.log, watcher.log


@pytest.fixture(autouse=True)
def _no_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Neither nats-py nor asyncio has logged an error."""
    yield
    errors = [r.getMessage() for r in caplog.get_records("call") if r.levelno >= logging.ERROR]
    assert errors == []


def own_clock() -> bool:
    """Watchers can have clocks of their own: Linux time namespaces, which require root."""
    return os.geteuid() == 0 and Path("/proc/self/ns/time").exists()


def wait_for_age(following: Following, *watchers: str) -> None:
    """The latest evidence of each has arrived with its age."""
    for watcher in watchers:
        wait_until(f"the age of {watcher}", partial(following.has_age, watcher))
