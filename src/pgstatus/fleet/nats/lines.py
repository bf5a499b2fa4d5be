"""Log lines about states that may last or return: each text once a minute, and not many texts."""

import logging

from pgstatus import clock
from pgstatus.errors import in_a_line

_PERIOD = 60.0
_TEXTS = 20


class Lines:
    """Lines of one logger, which begin with ``NATS:``."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._logged: dict[str, float] = {}

    def info(self, text: str) -> None:
        self._line(logging.INFO, text)

    def warning(self, text: str) -> bool:
        """Whether it was logged."""
        return self._line(logging.WARNING, text)

    def _line(self, level: int, text: str) -> bool:
        text, now = in_a_line(text), clock.now()
        self._logged = {t: at for t, at in self._logged.items() if now - at < _PERIOD}
        is_new = text not in self._logged and len(self._logged) < _TEXTS
        if is_new:
            self._logged[text] = now
        self._log.log(level if is_new else logging.DEBUG, "NATS: %s", text)
        return is_new
