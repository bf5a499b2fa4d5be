"""The ``application_name`` of the sessions: which instance, and which of its clusters."""

# PostgreSQL shows NAMEDATALEN - 1 bytes of it.
MAX_LENGTH = 63
_PREFIX = "pg-status"
# What remains of the name of the machine in any case.
_MIN_HOST = 26


def application_name(host: str, cluster: str | None) -> str:
    """``pg-status HOST/CLUSTER``; without the name of a cluster, ``pg-status HOST``.

    Parts that are too long are shortened to what distinguishes them: the name of a machine loses
    its domain and then its beginning, because names of pods differ at the end.
    """
    host, cluster = _in_ascii(host), _in_ascii(cluster or "")
    suffix = f"/{cluster}" if cluster else ""
    room = MAX_LENGTH - len(f"{_PREFIX} ")
    if len(host) + len(suffix) > room:
        host = host.partition(".")[0]
        host = host[-max(room - len(suffix), _MIN_HOST) :]
        suffix = suffix[: room - len(host)]
    return f"{_PREFIX} {host}{suffix}"


def _in_ascii(text: str) -> str:
    """As the server shows it: older versions replace each byte, newer ones write several."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)
