"""The command ``pg-status``: without arguments the daemon, otherwise what the argument names."""

import argparse
import contextlib
import logging
import os
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pgstatus import __version__
from pgstatus.errors import ConfigError, StartError, UnreachableError

if TYPE_CHECKING:
    from pgstatus.cli.remote import Instance


_UNUSABLE = "78 the configuration cannot be used."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (``sysexits.h`` where there is one for it)."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ConfigError as error:
        _complain(*error.problems, *error.warnings)
        return os.EX_CONFIG
    except (StartError, UnreachableError) as error:
        _complain(str(error))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _demo(options: argparse.Namespace) -> int:
    from pgstatus.cli.demo import run_demo  # noqa: PLC0415  # not the daemon's

    return run_demo(options.bindir, options.postgres, options.port)


def _failover(options: argparse.Namespace) -> int:
    from pgstatus.cli.demo import fail_over  # noqa: PLC0415

    return fail_over()


def _serve(options: argparse.Namespace) -> int:
    from pgstatus.daemon.process import SERVICE_MANAGER_VARIABLES, serve  # noqa: PLC0415
    from pgstatus.settings.load import load  # noqa: PLC0415  # --version needs none of it

    # The first process of a container has no default handlers; serve() installs its own.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: sys.exit(0))
    environ = {k: v for k, v in os.environ.items() if k not in SERVICE_MANAGER_VARIABLES}
    return serve(os.environ, lambda: load(environ))


def _check(options: argparse.Namespace) -> int:
    from pgstatus.cli.check import check_hosts  # noqa: PLC0415
    from pgstatus.settings.load import load  # noqa: PLC0415

    # What the checks have to say is printed, not logged.
    logging.getLogger("pgstatus").setLevel(logging.CRITICAL)
    settings = load(os.environ)
    for warning in settings.warnings:
        _complain(warning)
    return 0 if options.config_only else check_hosts(settings)


def _hosts(options: argparse.Namespace) -> int:
    from pgstatus.cli.show import show_hosts  # noqa: PLC0415

    return show_hosts(_instance(options), options.watch)


def _explain(options: argparse.Namespace) -> int:
    from pgstatus.cli.show import show_explanation  # noqa: PLC0415

    return show_explanation(_instance(options), options.question)


def _health(options: argparse.Namespace) -> int:
    answer = _instance(options).probe(options.path)
    if not answer.is_good:
        _complain(f"{answer.status} {answer.body.strip()}")
    return 0 if answer.is_good else 1


def _instance(options: argparse.Namespace) -> "Instance":
    """The one that the options name, else the one that runs with this configuration."""
    from pgstatus.cli.remote import Instance  # noqa: PLC0415
    from pgstatus.settings.load import load  # noqa: PLC0415
    from pgstatus.settings.secrets import read_tokens  # noqa: PLC0415

    if options.url is None:
        if any((options.token_file, options.ca, options.cert, options.key)):
            raise StartError("--token-file, --ca, --cert and --key go with --url")
        try:
            return Instance.of(load(os.environ))
        except ConfigError as error:
            hint = "to ask one that runs with another configuration: --url http://127.0.0.1:8000"
            raise ConfigError(error.problems, [*error.warnings, hint]) from None
    try:
        token = options.token_file and read_tokens(Path(options.token_file))[0].decode()
        context = ssl.create_default_context(cafile=options.ca)
        if options.cert is not None:
            context.load_cert_chain(options.cert, options.key)
    except (OSError, ValueError) as error:
        raise StartError(f"the token or a certificate cannot be read: {error}") from None
    return Instance(options.url, token, context)


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
    check = commands.add_parser(
        "check",
        help="try the configuration: ask every host once, say what works and which privilege is "
        "missing",
        epilog="Exit status: 0 every host answered; 1 one did not; " + _UNUSABLE,
    )
    check.set_defaults(run=_check)
    check.add_argument("--config-only", action="store_true", help="ask no host")
    hosts = commands.add_parser(
        "hosts",
        help="the table of all hosts, as a running instance sees them",
        epilog="Exit status: 0 there is a master; 3 there is none; 1 nobody could be asked; "
        + _UNUSABLE,
    )
    hosts.set_defaults(run=_hosts)
    hosts.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=_seconds,
        const=1.0,
        help="show it again and again (default: every second)",
    )
    explain = commands.add_parser(
        "explain",
        help="host by host, why a question does or does not name it",
        epilog="Exit status: 0 somebody is named; 3 nobody is; 1 nobody could be asked; "
        + _UNUSABLE,
    )
    explain.set_defaults(run=_explain)
    explain.add_argument("question", help="a path with its limits, as in 'replica?lag_ms=50'")
    health = commands.add_parser(
        "health",
        help="ask a running instance how it is",
        epilog="Exit status: 0 all is well; 1 it is not, or nobody could be asked; " + _UNUSABLE,
    )
    health.set_defaults(run=_health)
    for command in (hosts, explain, health):
        _add_instance(command)
    health.add_argument(
        "path",
        nargs="?",
        default="/health",
        choices=["/live", "/ready", "/health"],
        help="what to ask (default: %(default)s)",
    )
    return parser


def _add_instance(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "which instance", "Without --url the one on this machine that runs with this configuration."
    )
    group.add_argument("--url", help="http://host:port, https://host:port or unix:/path")
    group.add_argument("--token-file", metavar="FILE", help="a bearer token, with --url")
    group.add_argument("--ca", metavar="FILE", help="who signs its certificate, with --url")
    group.add_argument("--cert", metavar="FILE", help="our certificate, with --url")
    group.add_argument("--key", metavar="FILE", help="its key")


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0.1 <= float(text) <= 86_400:
            return float(text)
    raise argparse.ArgumentTypeError("expected seconds, from 0.1 to 86400")


def _complain(*sentences: str) -> None:
    for sentence in sentences:
        sys.stderr.write(f"pg-status: {sentence}\n")
