"""The parts of gunicorn's inside that the worker stands on.

If one of these tests fails, gunicorn has changed: read what changed, see whether `fastlane`,
`exchange` and `connection` are still right, then adjust the test.
"""

import hashlib
import inspect

import gunicorn
import pytest
from gunicorn.http import get_parser, parser, unreader, wsgi
from gunicorn.workers import base, gthread


def test_release() -> None:
    assert gunicorn.version_info[0] == 27


@pytest.mark.parametrize(
    ("part", "digest"),
    [
        # What our `run` replaces, and what it calls.
        (gthread.ThreadWorker.__init__, "5681b8b542ea"),
        (gthread.ThreadWorker.init_process, "e4fc63a1a68e"),
        (gthread.ThreadWorker.run, "f92c7394d857"),
        (gthread.ThreadWorker.accept, "f8dcead3dce5"),
        (gthread.ThreadWorker.set_accept_enabled, "140150ebfd3c"),
        (gthread.ThreadWorker.handle_exit, "b4e7decd4f92"),
        (gthread.ThreadWorker.handle_quit, "36bd35a8dae5"),
        (gthread.ThreadWorker.is_parent_alive, "3517612f7763"),
        (gthread.PollableMethodQueue, "5b4a78bd3cfb"),
        # What our `exchange` replaces, and what it calls.
        (gthread.ThreadWorker.handle, "ca85c9be3df7"),
        (gthread.ThreadWorker.handle_request, "6d0de5b91910"),
        (base.Worker.init_process, "114caccd7a0e"),
        (base.Worker.handle_error, "75426448389b"),
        (get_parser, "b7d8dcde91e2"),
        (parser.Parser, "3a9c06e348c7"),
        (unreader.Unreader, "84aaa8f91fcd"),
        (unreader.SocketUnreader, "786a257be09e"),
        (wsgi.create, "2c35d4a2dc62"),
        (wsgi.Response, "d67f8e6b29d7"),
    ],
    ids=lambda part: getattr(part, "__qualname__", ""),
)
def test_source_is_the_one_that_was_read(part: object, digest: str) -> None:
    source = inspect.getsource(part)  # type: ignore[arg-type]
    assert hashlib.sha256(source.encode()).hexdigest()[:12] == digest
