"""``pg-status health``: asks the instance on this machine how it is.

For the health check of a container, which then needs neither curl nor a shell.
"""

import http.client

from pgstatus.config import Settings

_PATIENCE = 2.0
# A server that listens everywhere is asked on the loopback address of the same family.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # noqa: S104


def ask(settings: Settings, path: str) -> str | None:
    """What is wrong, in words; None where ``path`` is answered with 200."""
    address = _LOOPBACK.get(settings.listen_address, settings.listen_address)
    connection = http.client.HTTPConnection(address, settings.listen_port, timeout=_PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from {address}:{settings.listen_port}: {error}"
    finally:
        connection.close()
    return None if response.status == http.client.OK else f"{response.status} {body}"
