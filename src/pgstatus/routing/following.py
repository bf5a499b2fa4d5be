"""Gives up the pools of hosts that the answers of pg-status do not name any more."""

import threading
from collections.abc import Callable
from typing import Literal, NamedTuple

from pgstatus.client import Answer, AsyncPgStatusClient, PgStatusClient
from pgstatus.client.request import Fallback

Address = tuple[str, int]
"""Host and port."""


# How old the answer of pg-status may be, in seconds, when a caller that has waited for a connection
# to the master gets one.
VALID = 5.0


class Question(NamedTuple):
    """A question of pg-status with its limits."""

    name: Literal["master", "replica"]
    lag_ms: int | None = None
    lag_bytes: int | None = None
    fallback: Fallback | None = None


MASTER = Question("master")


class Following:
    """Calls ``retire`` for each host that leaves the answers to the questions that were added.

    It is called in the event loop, or in a thread of the client.
    """

    def __init__(
        self,
        client: AsyncPgStatusClient | PgStatusClient,
        retire: Callable[[Address], None],
    ) -> None:
        self._client = client
        self._retire = retire
        self._named = NamedHosts()
        self._questions: set[Question] = set()
        self._unsubscribe: list[Callable[[], None]] | None = None
        self._lock = threading.Lock()

    def add(self, question: Question) -> None:
        """Follow the answers to this question too, from now on."""
        if question in self._questions:
            return
        with self._lock:
            if question not in self._questions and self._unsubscribe is not None:
                self._unsubscribe.append(self._subscribe(question))
                self._questions.add(question)

    def start(self) -> None:
        with self._lock:
            if self._unsubscribe is None:
                self._unsubscribe = []

    def stop(self) -> None:
        with self._lock:
            unsubscribe, self._unsubscribe = self._unsubscribe or (), None
            self._questions.clear()
        for each in unsubscribe:
            each()

    def _subscribe(self, question: Question) -> Callable[[], None]:
        def changed(answer: Answer) -> None:
            hosts = [(each.host, each.port) for each in answer.hosts]
            for address in self._named.left(question, hosts):
                self._retire(address)

        name, lag_ms, lag_bytes, fallback = question
        return self._client.on_change(
            changed, name, lag_ms=lag_ms, lag_bytes=lag_bytes, fallback=fallback
        )


class NamedHosts:
    """The hosts of the latest answer to each question. May be used by any thread."""

    def __init__(self) -> None:
        self._answers: dict[Question, list[Address]] = {}
        self._lock = threading.Lock()

    def left(self, question: Question, hosts: list[Address]) -> set[Address]:
        """Note an answer; the hosts that have left.

        These are the hosts that no answer names any more, and a previous master even if it is a
        replica now: its connections were made before it was restarted. An answer without hosts
        changes nothing: nothing is handed out meanwhile, and the same hosts may be named again, for
        example after a restart of pg-status.
        """
        if not hosts:
            return set()
        with self._lock:
            before = set(self._answers.get(question, ()))
            self._answers[question] = hosts
            named = {address for answer in self._answers.values() for address in answer}
        return before - (set(hosts) if question == MASTER else named)
