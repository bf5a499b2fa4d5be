"""The socket that clients connect to: on an address, on all of them, or in the file system."""

import os
import socket
import stat
from pathlib import Path

from pgstatus.errors import StartError
from pgstatus.settings.load import Settings

_BACKLOG = 2048


def listen(settings: Settings) -> socket.socket:
    """Listen where the settings say. StartError: it is taken, or cannot be had."""
    address = settings.listen_address
    try:
        if address.startswith("unix:"):
            return _listen_in_file_system(Path(address.removeprefix("unix:")), settings.socket_mode)
        return _listen_on_network(address, settings.listen_port)
    except OSError as error:
        # Python adds the address to the words of some errors.
        words = os.strerror(error.errno) if error.errno else str(error)
        raise StartError(f"cannot listen on {settings.url}: {words}") from None


def _listen_on_network(address: str, port: int) -> socket.socket:
    everywhere = address == "*"
    dual = everywhere and socket.has_dualstack_ipv6()
    host = ("::" if dual else "") if everywhere else address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server(
        (host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual
    )
    # Inherited by each connection. Otherwise an answer that is sent in two parts waits 40 ms for
    # the client's delayed acknowledgement of the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _listen_in_file_system(path: Path, mode: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_left_over(path)
        # With the right mode from its first moment on.
        before = os.umask(0o777 & ~mode)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_left_over(path: Path) -> None:
    """A socket on which nobody listens is what a killed process has left."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError("something that is no socket is in the way")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError("another process listens there")
