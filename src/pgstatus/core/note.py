"""What passes between the API, which makes an answer, and the worker, which may keep it.

Under another server nobody reads it.
"""

from collections.abc import Iterator

NOTE = "pgstatus.core.note"
"""Key of the WSGI environ under which a worker hands in a `Note`."""

OTHER = "other"
"""The endpoint of requests that no route leads to."""


class MustWait(BaseException):  # not an error, and no error handler may answer it
    """The answer can only be made by waiting, where waiting is not allowed."""


class Note:
    """What the API says about one answer while it makes it."""

    __slots__ = (
        "_wanted", "choices", "endpoint", "fell_back", "index", "may_wait", "replayable",
        "stranger", "turn",
    )  # fmt: skip

    def __init__(
        self, *, may_wait: bool = True, wanted: int | None = None, stranger: bool = False
    ) -> None:
        self._wanted = wanted
        self.may_wait = may_wait
        self.stranger = stranger
        """The client has shown no certificate, where one is asked for."""
        self.replayable = False
        """The answer depends on the bytes of the request and on the snapshot, nothing else."""
        self.endpoint = OTHER
        """The path as it is routed."""
        self.fell_back = False
        """A question about replicas was answered with the master."""
        self.turn: Iterator[int] | None = None
        self.choices = 1
        self.index = 0

    def pick(self, turn: Iterator[int], choices: int) -> int:
        """Which of several equally good answers is given: the next in turn, or the wanted one."""
        self.turn, self.choices = turn, choices
        self.index = (next(turn) if self._wanted is None else self._wanted) % choices
        return self.index

    def wait(self) -> None:
        """To be called before waiting for anything; `MustWait` where that is not allowed."""
        if not self.may_wait:
            raise MustWait
