"""A host that sends more than it should: ``python -m tests.support.flood NAME ADDRESS``.

A process of its own, because the test measures the delay that it causes. It prints its port.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen
from typing import BinaryIO

from tests.support.liar import GREETING, Respond, data, description, honest, liar, message


def endless(part: bytes) -> Respond:
    """The host sends this part until the connection is closed."""

    def send(client: BinaryIO) -> None:
        block = part * (1 + 65536 // len(part))
        while True:
            client.write(block)

    return send


def single_bytes(client: BinaryIO) -> None:
    """A notice that grows by one byte at a time."""
    client.write(b"N\x00\x00\x70\x00")
    while True:
        client.write(b"S")


def unsolicited(client: BinaryIO) -> None:
    """A valid response, followed by parameters that change endlessly."""
    client.write(honest())
    while True:
        client.write(1000 * message(b"S", b"application_name\0x\0"))


NOTICE = message(b"N", b"SWARNING\0VWARNING\0C01000\0Mx\0\0")
FLOODS: dict[str, tuple[bytes | Respond, bytes | Respond]] = {
    "rows": (lambda c: (c.write(description(1)), endless(data([b"x"]))(c)), GREETING),
    "one large message": (lambda c: (c.write(b"D\x3f\xff\xff\xff"), endless(b"x")(c)), GREETING),
    "notices": (endless(NOTICE), GREETING),
    "notifications": (endless(message(b"A", b"\0\0\0\1a\0b\0")), GREETING),
    "single bytes": (single_bytes, GREETING),
    "unsolicited": (unsolicited, GREETING),
    "login": (honest(), endless(NOTICE)),
    "parameters": (honest(), lambda c: (c.write(GREETING[:9]), endless(NOTICE)(c))),
}
"""Name → what the host sends after a query, and after the start-up message."""


@contextmanager
def flooding(name: str, address: str) -> Iterator[int]:
    """Run it in the background; yields the port."""
    command = [sys.executable, "-m", "tests.support.flood", name, address]
    with Popen(command, stdout=PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


if __name__ == "__main__":
    with liar(sys.argv[2], *FLOODS[sys.argv[1]]) as port:
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        time.sleep(3600)
