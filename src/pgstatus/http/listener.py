"""The listening socket: on an address, on all addresses, in the file system, or inherited."""

import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from pgstatus.errors import StartError
from pgstatus.settings.process import ProcessSettings

BACKLOG = 2048
_FIRST_INHERITED = 3
# A connection without a request is accepted after this time.
_DEFER_SECONDS = 1


def socket_file(settings: ProcessSettings) -> Path | None:
    """The path of the socket; None: it is a network socket."""
    scheme, _, path = settings.listen_address.partition(":")
    return Path(path) if scheme == "unix" else None


def listen(settings: ProcessSettings) -> socket.socket:
    """Listen on the configured address. StartError: it is in use, or does not exist."""
    path = socket_file(settings)
    try:
        if path is not None:
            return _listen_in_file_system(path, settings.socket_mode)
        return _listen_on_network(settings.listen_address, settings.listen_port)
    except OSError as error:
        # Python adds the address to the text of some errors.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StartError(f"cannot listen on {settings.url}: {reason}") from None


def inherited_sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """The sockets that the service manager listens on for this process; usually none.

    Source: sd_listen_fds(3).
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    text = environ.get("LISTEN_FDS", "")
    count = int(text) if text.isdigit() else 0
    found = []
    for descriptor in range(_FIRST_INHERITED, _FIRST_INHERITED + count):
        listener = socket.socket(fileno=descriptor)
        listener.set_inheritable(False)
        if listener.family != socket.AF_UNIX:
            _set_options(listener)
        found.append(listener)
    return found


def _listen_on_network(address: str, port: int) -> socket.socket:
    everywhere = address == "*"
    dual = everywhere and socket.has_dualstack_ipv6()
    host = ("::" if dual else "") if everywhere else address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server(
        (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=dual
    )
    _set_options(listener)
    return listener


def _set_options(listener: socket.socket) -> None:
    # Inherited by each connection. Otherwise a response that is sent in two parts waits 40 ms for
    # the client's delayed acknowledgement of the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A connection is accepted when its first request has arrived, which saves a turn of the event
    # loop and two system calls per connection.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)


def _listen_in_file_system(path: Path, mode: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_left_over(path)
        # The mode must be right from the beginning.
        before = os.umask(0o777 & ~mode)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_left_over(path: Path) -> None:
    """Remove the socket file of a process that was killed: no process listens on it."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError("a file that is not a socket exists there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError("another process is listening there")
