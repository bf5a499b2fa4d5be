"""The command ``pg-status``: without arguments the daemon, otherwise what the argument names."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from pgstatus import __version__
from pgstatus.errors import ConfigError, StartError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (``sysexits.h`` where there is one for it)."""
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "demo":
                from pgstatus.demo.run import run_demo  # noqa: PLC0415  # not the daemon's

                return run_demo(options.bindir, options.postgres, options.port)
            case "failover":
                from pgstatus.demo.run import fail_over  # noqa: PLC0415

                return fail_over()
            case _:
                return _serve()
    except ConfigError as error:
        _complain(*error.problems)
        return os.EX_CONFIG
    except StartError as error:
        _complain(str(error))
        return 1


def _serve() -> int:
    from pgstatus.config import load_settings  # noqa: PLC0415  # --version needs none of it
    from pgstatus.logs import set_up_logs  # noqa: PLC0415
    from pgstatus.server import serve  # noqa: PLC0415

    settings = load_settings()
    set_up_logs(settings.log_level, settings.log_format)
    logging.getLogger(__name__).info(
        "pg-status %s watches %s", __version__, ", ".join(map(str, settings.hosts))
    )
    serve(settings)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pg-status",
        description="Watches PostgreSQL hosts and answers over HTTP which one is the master and "
        "which replicas are in sync. Configured by pg_status__* environment variables; "
        "pg_status__hosts is required.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="watch a real PostgreSQL cluster made for the occasion: a primary, two replicas",
    )
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
    commands.add_parser("failover", help="crash the primary of a running demo, promote a replica")
    return parser


def _complain(*sentences: str) -> None:
    for sentence in sentences:
        sys.stderr.write(f"pg-status: {sentence}\n")
