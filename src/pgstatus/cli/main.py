"""The command ``pg-status``: the daemon, or the subcommand that the first argument names."""

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
    _open_missing_streams()
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ConfigError as error:
        _report("error", *error.problems)
        _report("warning", *error.warnings)
        return os.EX_CONFIG
    except (StartError, UnreachableError) as error:
        _report("error", str(error))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of the output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _demo(options: argparse.Namespace) -> int:
    from pgstatus.cli.demo import run_demo  # noqa: PLC0415  # not used by the daemon

    return run_demo(options.bindir, options.postgres, options.port)


def _failover(options: argparse.Namespace) -> int:
    from pgstatus.cli.demo import fail_over  # noqa: PLC0415

    return fail_over()


def _serve(options: argparse.Namespace) -> int:
    # Before the imports, which take most of the time of a start. A reload that is requested
    # meanwhile is done after it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    # The first process of a container has no default handlers; serve() installs its own.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: sys.exit(0))
    from pgstatus.daemon.process import SERVICE_MANAGER_VARIABLES, serve  # noqa: PLC0415
    from pgstatus.settings.load import load  # noqa: PLC0415  # --version needs none of it

    environ = {k: v for k, v in os.environ.items() if k not in SERVICE_MANAGER_VARIABLES}
    return serve(os.environ, lambda: load(environ))


def _check(options: argparse.Namespace) -> int:
    from pgstatus.cli.check import check_hosts  # noqa: PLC0415
    from pgstatus.settings.load import load  # noqa: PLC0415

    # The results of the checks are printed, not logged.
    logging.getLogger("pgstatus").setLevel(logging.CRITICAL)
    settings = load(os.environ)
    _report("warning", *settings.warnings)
    if not options.config_only:
        return check_hosts(settings)
    sys.stdout.write("OK: the configuration can be used\n")
    return 0


def _hosts(options: argparse.Namespace) -> int:
    from pgstatus.cli.show import show_hosts  # noqa: PLC0415

    return show_hosts(_instance(options), options.watch)


def _explain(options: argparse.Namespace) -> int:
    from pgstatus.cli.show import show_explanation  # noqa: PLC0415

    return show_explanation(_instance(options), options.question)


def _reload(options: argparse.Namespace) -> int:
    from pgstatus.cli.reload import reload_and_wait  # noqa: PLC0415

    return reload_and_wait(_instance(options), options.pid)


def _health(options: argparse.Namespace) -> int:
    response = _instance(options).probe(options.path)
    if response.is_ok:
        sys.stdout.write("OK\n")
        return 0
    _report("error", f"{options.path}: status {response.status}: {response.body.strip()}")
    return 1


def _instance(options: argparse.Namespace) -> "Instance":
    """The instance at ``--url``, or the one that runs with this configuration."""
    from pgstatus.cli.remote import Instance  # noqa: PLC0415
    from pgstatus.settings.load import load  # noqa: PLC0415
    from pgstatus.settings.secrets import read_tokens  # noqa: PLC0415

    if options.url is None:
        if any((options.token_file, options.ca, options.cert, options.key)):
            raise StartError("--token-file, --ca, --cert and --key require --url")
        try:
            return Instance.of(load(os.environ))
        except ConfigError as error:
            hint = "for an instance with another configuration use --url http://127.0.0.1:8000"
            raise ConfigError([*error.problems, hint], error.warnings) from None
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
        description="Monitors PostgreSQL hosts and reports over HTTP which one is the master and "
        "which replicas are in sync. Without a command it starts the daemon. It is configured by "
        "environment variables pg_status__*; pg_status__hosts is required.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    demo = commands.add_parser(
        "demo", help="start a temporary PostgreSQL cluster (a primary, two replicas) and monitor it"
    )
    demo.set_defaults(run=_demo)
    demo.add_argument(
        "--postgres",
        metavar="VERSION",
        default="18",
        choices=["16", "18"],
        help="PostgreSQL version from the extra 'demo': 16 or 18 (default: 18)",
    )
    demo.add_argument(
        "--bindir",
        metavar="DIR",
        help="use the PostgreSQL programs in this directory, as in /usr/lib/postgresql/17/bin",
    )
    demo.add_argument("--port", type=int, default=8000, help="HTTP port (default: 8000)")
    failover = commands.add_parser(
        "failover", help="crash the primary of the running demo and promote a replica"
    )
    failover.set_defaults(run=_failover)
    check = commands.add_parser(
        "check",
        help="test the configuration: check every host once, and print missing privileges",
        epilog="Exit status: 0 all hosts responded; 1 a host did not; " + _UNUSABLE,
    )
    check.set_defaults(run=_check)
    check.add_argument("--config-only", action="store_true", help="do not connect to the hosts")
    hosts = commands.add_parser(
        "hosts",
        help="print the table of all hosts of a running instance",
        epilog="Exit status: 0 there is a master; 3 there is no master; 1 the instance cannot be "
        "reached; " + _UNUSABLE,
    )
    hosts.set_defaults(run=_hosts)
    hosts.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=_seconds,
        const=1.0,
        help="repeat the table (default: every second)",
    )
    explain = commands.add_parser(
        "explain",
        help="print for each host why an endpoint selects it, or does not",
        epilog="Exit status: 0 a host is selected; 3 no host is selected; 1 the instance cannot be "
        "reached; " + _UNUSABLE,
    )
    explain.set_defaults(run=_explain)
    explain.add_argument("question", help="an endpoint with its limits, as in 'replica?lag_ms=50'")
    health = commands.add_parser(
        "health",
        help="test whether a running instance is healthy",
        epilog="Exit status: 0 healthy; 1 not healthy, or the instance cannot be reached; "
        + _UNUSABLE,
    )
    health.set_defaults(run=_health)
    reload = commands.add_parser(
        "reload",
        help="have a running instance read its configuration again, and wait for the result",
        epilog="Exit status: 0 the configuration is in effect; 1 it was refused, or the instance "
        "cannot be reached; " + _UNUSABLE,
    )
    reload.set_defaults(run=_reload)
    reload.add_argument("--pid", type=int, required=True, help="the process; in a container: 1")
    for command in (hosts, explain, health, reload):
        _add_instance(command)
    health.add_argument(
        "path",
        nargs="?",
        default="/health",
        choices=["/live", "/ready", "/health"],
        help="the endpoint to request (default: %(default)s)",
    )
    return parser


def _add_instance(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "instance", "Without --url: the instance on this machine that runs with this configuration."
    )
    group.add_argument("--url", help="http://host:port, https://host:port or unix:/path")
    group.add_argument("--token-file", metavar="FILE", help="file with a bearer token, for --url")
    group.add_argument(
        "--ca", metavar="FILE", help="authority that issued the server's certificate, for --url"
    )
    group.add_argument("--cert", metavar="FILE", help="client certificate, for --url")
    group.add_argument("--key", metavar="FILE", help="key of the client certificate")


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0.1 <= float(text) <= 86_400:
            return float(text)
    raise argparse.ArgumentTypeError("expected seconds, from 0.1 to 86400")


def _report(level: str, *sentences: str) -> None:
    for sentence in sentences:
        sys.stderr.write(f"pg-status: {level}: {sentence}\n")


def _open_missing_streams() -> None:
    """Replace closed standard streams (``2>&-``) by the null device.

    Otherwise the next file or connection would get their descriptors, and receive log lines.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.dup2(descriptor, number)
            os.set_inheritable(number, True)
            if descriptor != number:
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))
