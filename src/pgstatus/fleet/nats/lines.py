"""Log lines about a state that may last or return: each text at most once a minute."""

import logging

from pgstatus import clock
from pgstatus.errors import in_a_line

_PERIOD = 60.0
_TEXTS = 50


class Lines:
    """Lines of one logger, which begin with ``NATS:``."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._logged: dict[str, float] = {}

    def info(self, text: str) -> None:
        self._line(logging.INFO, text)

    def warning(self, text: str) -> None:
        self._line(logging.WARNING, text)

    def _line(self, level: int, text: str) -> None:
        text, now = in_a_line(text), clock.now()
        if now - self._logged.get(text, now - _PERIOD) < _PERIOD:
            level = logging.DEBUG
        else:
            if len(self._logged) >= _TEXTS:
                self._logged.clear()
            self._logged[text] = now
        self._log.log(level, "NATS: %s", text)
