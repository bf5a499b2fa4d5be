"""The command ``pg-status``: without arguments the daemon, otherwise what the argument names."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial

from pgstatus import __version__
from pgstatus.errors import ConfigError, StartError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (``sysexits.h`` where there is one for it)."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ConfigError as error:
        _complain(*error.problems)
        return os.EX_CONFIG
    except StartError as error:
        _complain(str(error))
        return 1


def _demo(options: argparse.Namespace) -> int:
    from pgstatus.demo.run import run_demo  # noqa: PLC0415  # not the daemon's

    return run_demo(options.bindir, options.postgres, options.port)


def _failover(options: argparse.Namespace) -> int:
    from pgstatus.demo.run import fail_over  # noqa: PLC0415

    return fail_over()


def _serve(options: argparse.Namespace) -> int:
    from pgstatus.config import load_settings  # noqa: PLC0415  # --version needs none of it
    from pgstatus.logs import set_up_logs  # noqa: PLC0415
    from pgstatus.notify import Notifier  # noqa: PLC0415
    from pgstatus.server import serve  # noqa: PLC0415

    # Until gunicorn has its own: as the first process of a container one has no default handlers.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: sys.exit(0))
    notifier = Notifier.from_environment()
    load = partial(load_settings, dict(os.environ))
    settings = load()
    set_up_logs(settings.log_level, settings.log_format)
    logging.getLogger(__name__).info(
        "pg-status %s watches %s", __version__, ", ".join(map(str, settings.hosts))
    )
    serve(settings, load, notifier)
    return 0


def _check(options: argparse.Namespace) -> int:
    from pgstatus.config import load_settings  # noqa: PLC0415

    for warning in load_settings().warnings:
        _complain(warning)
    return 0


def _health(options: argparse.Namespace) -> int:
    from pgstatus.config import load_settings  # noqa: PLC0415
    from pgstatus.health import ask  # noqa: PLC0415

    complaint = ask(load_settings(), options.path)
    if complaint is not None:
        _complain(complaint)
    return 0 if complaint is None else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pg-status",
        description="Watches PostgreSQL hosts and answers over HTTP which one is the master and "
        "which replicas are in sync. Configured by pg_status__* environment variables; "
        "pg_status__hosts is required.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="watch a real PostgreSQL cluster made for the occasion: a primary, two replicas",
    )
    demo.set_defaults(run=_demo)
    demo.add_argument(
        "--postgres",
        metavar="VERSION",
        default="18",
        choices=["16", "18"],
        help="which of the PostgreSQL versions that the extra brings (16, 18)",
    )
    demo.add_argument(
        "--bindir",
        metavar="DIR",
        help="use the PostgreSQL of this machine, as in /usr/lib/postgresql/17/bin",
    )
    demo.add_argument("--port", type=int, default=8000, help="HTTP port (default: 8000)")
    failover = commands.add_parser(
        "failover", help="crash the primary of a running demo, promote a replica"
    )
    failover.set_defaults(run=_failover)
    check = commands.add_parser("check", help="say what is wrong with the configuration, and end")
    check.set_defaults(run=_check)
    health = commands.add_parser(
        "health", help="ask the instance that runs with this configuration; status 0: all is well"
    )
    health.set_defaults(run=_health)
    health.add_argument(
        "path",
        nargs="?",
        default="/health",
        choices=["/live", "/ready", "/health"],
        help="what to ask (default: %(default)s)",
    )
    return parser


def _complain(*sentences: str) -> None:
    for sentence in sentences:
        sys.stderr.write(f"pg-status: {sentence}\n")
