"""sd_notify(3): which messages are sent, and that a socket that accepts none blocks nothing."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgstatus.outputs.systemd import VARIABLES, Notifier
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close all notifiers of the test."""
    notifiers: list[Notifier] = []
    create = Notifier.__init__

    def note(self: Notifier, *arguments: Any, **options: Any) -> None:
        create(self, *arguments, **options)
        notifiers.append(self)

    monkeypatch.setattr(Notifier, "__init__", note)
    yield
    for notifier in notifiers:
        notifier.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The receiving end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "socket"))
        manager.setblocking(False)
        yield manager


def address(manager: socket.socket) -> str:
    return str(manager.getsockname())


def messages(manager: socket.socket) -> list[str]:
    """All that have arrived."""
    received = []
    while True:
        try:
            received.append(manager.recv(1000).decode())
        except BlockingIOError:
            return received


def fill(manager: socket.socket) -> None:
    """Leave no room in its queue."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        while True:
            try:
                other.sendto(b"OTHER=1", address(manager))
            except BlockingIOError:
                return


def test_without_a_socket_nothing_is_sent() -> None:
    notifier = Notifier.from_environment({})
    notifier.ready()
    notifier.alive("fine")


def test_a_missing_socket_is_logged_once_and_used_when_it_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(str(tmp_path / "socket"))
    notifier.ready()
    for _ in range(3):
        notifier.alive("fine")
    assert caplog.text.count("notification of the service manager delayed") == 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "socket"))
        manager.setblocking(False)
        notifier.alive("fine")
        assert messages(manager) == ["READY=1", "STATUS=fine"]


def test_the_abstract_namespace() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # Linux chooses an abstract name
        name = manager.getsockname().decode()
        Notifier("@" + name[1:]).ready()
        assert manager.recv(100) == b"READY=1"


def test_many_calls_send_few_messages(manager: socket.socket) -> None:
    notifier = Notifier(address(manager), watchdog=True)
    for _ in range(100):
        notifier.alive("fine")
    assert messages(manager) == ["WATCHDOG=1\nSTATUS=fine"]


def test_what_a_full_queue_rejects_is_sent_later(manager: socket.socket) -> None:
    notifier = Notifier(address(manager), watchdog=True)
    fill(manager)
    notifier.reloading()
    notifier.ready()
    notifier.alive("old")
    notifier.alive("new")
    assert set(messages(manager)) == {"OTHER=1"}
    notifier.alive("new")
    received = messages(manager)
    assert [message.partition("=")[0] for message in received[:2]] == ["RELOADING", "READY"]
    assert received[2:] == ["WATCHDOG=1\nSTATUS=new"]


def test_messages_that_were_rejected_for_a_long_time_do_not_accumulate(
    manager: socket.socket,
) -> None:
    notifier = Notifier(address(manager))
    fill(manager)
    for _ in range(1000):
        notifier.reloading()
        notifier.ready()
    messages(manager)
    wait_until("the queue is empty", lambda: not messages(manager))
    received: list[str] = []
    for _ in range(10):
        notifier.alive("fine")
        received += messages(manager)
    assert len(received) < 20
    assert received[-2:] == ["READY=1", "STATUS=fine"]


def test_a_shortage_of_descriptors_does_not_stop_the_watchdog(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifier = Notifier(address(manager), watchdog=True)

    def refuse(*_: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", refuse)
    notifier.alive("fine")
    assert messages(manager) == ["WATCHDOG=1\nSTATUS=fine"]


def test_stopping(manager: socket.socket) -> None:
    Notifier(address(manager)).stopping()
    assert messages(manager) == ["STOPPING=1"]


@pytest.mark.parametrize(
    ("pid", "watchdog"), [("ours", True), ("", True), ("1", False), ("x", False)]
)
def test_a_watchdog_for_another_process_is_ignored(
    manager: socket.socket, pid: str, watchdog: bool
) -> None:
    environment = {"WATCHDOG_USEC": "1000000", "NOTIFY_SOCKET": address(manager)}
    if pid:
        environment["WATCHDOG_PID"] = str(os.getpid()) if pid == "ours" else pid
    Notifier.from_environment(environment).alive("fine")
    assert ("WATCHDOG=1" in messages(manager)[0]) == watchdog


def test_the_environment_of_the_process_is_not_modified(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "1")
    before = dict(os.environ)
    Notifier.from_environment(os.environ)
    assert dict(os.environ) == before
