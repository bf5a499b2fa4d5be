"""sd_notify(3): what is sent, and what happens where nobody listens."""

import os
import socket
from pathlib import Path

import pytest

from pgstatus.outputs.systemd import Notifier


def test_without_a_socket_it_is_silent() -> None:
    notifier = Notifier()
    notifier.ready()
    notifier.alive("fine")


def test_a_socket_that_is_gone_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Notifier(str(tmp_path / "gone")).ready()
    assert "was not told READY=1" in caplog.text


def test_the_abstract_namespace() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # Linux chooses an abstract name
        name = manager.getsockname().decode()
        Notifier("@" + name[1:]).ready()
        assert manager.recv(100) == b"READY=1"


def test_many_signs_of_life_are_few_messages(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "socket"))
        manager.setblocking(False)
        notifier = Notifier(str(tmp_path / "socket"), watchdog=True)
        for _ in range(100):
            notifier.alive("fine")
        assert manager.recv(100) == b"WATCHDOG=1\nSTATUS=fine"
        with pytest.raises(BlockingIOError):
            manager.recv(100)


def test_what_systemd_set_is_inherited_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.setenv(name, "1")
    Notifier.from_environment()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()
