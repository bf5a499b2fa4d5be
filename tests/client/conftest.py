"""Clients of both kinds, and a server for them."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from pgstatus.client import asynchronous, synchronous
from tests.client.notifier import Notifier
from tests.client.support import Asker, AskerFactory, Server


@pytest.fixture(params=["sync", "async"])
def make_asker(request: pytest.FixtureRequest) -> Iterator[AskerFactory]:
    askers = []

    def make(url: str, **options: Any) -> Asker:
        askers.append(Asker(request.param == "async", url, **options))
        return askers[-1]

    yield make
    for asker in askers:
        asker.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients wait for a new answer although a previous one is usable: the machine is busy."""
    for module in (asynchronous, synchronous):
        monkeypatch.setattr(module, "PATIENCE", 10.0)


@pytest.fixture
def server() -> Iterator[Server]:
    listener = socket.create_server(("127.77.7.1", 0))
    server = Server(listener)
    yield server
    server.stop()


@pytest.fixture
def notifier() -> Iterator[Notifier]:
    notifier = Notifier()
    yield notifier
    notifier.stop()


@pytest.fixture
def unused() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.77.7.1", 0)) as listener:
        return f"http://127.77.7.1:{listener.getsockname()[1]}"
