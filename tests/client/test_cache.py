"""Responses and notifications that overtake each other."""

from pgstatus.client.cache import AnswerCache
from pgstatus.client.model import ChosenHost
from pgstatus.client.request import Request

MASTER = Request("/master")


def master(host: str) -> ChosenHost:
    return ChosenHost(host, 5432, "master", None, None, None)


def test_a_withdrawal_does_not_drop_a_later_answer() -> None:
    """The notification of the promotion has overtaken the response to an earlier request."""
    cache = AnswerCache(0.1, 600)
    cache.store(MASTER, master("old"), 1.0)
    cache.store(MASTER, master("new"), 3.0)
    cache.forget(MASTER, 2.0)
    assert cache.usable(MASTER, 4.0) == master("new")
    cache.forget(MASTER, 3.5)
    assert cache.usable(MASTER, 4.0) is None
