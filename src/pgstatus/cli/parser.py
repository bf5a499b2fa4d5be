"""The arguments of ``pg-status``, and the text of ``--help``."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pgstatus import __version__

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

Run = Callable[[argparse.Namespace], int]

_USAGE = "2 invalid arguments"
_UNUSABLE = f"{_USAGE}; 78 the configuration cannot be used."
_REFUSED = "the instance cannot be reached or refuses the request (token, unknown cluster"
_REACHED = f"1 {_REFUSED}); {_UNUSABLE}"

_EXAMPLES = """\
examples:
  pg-status demo
      a temporary cluster to try pg-status with
  pg_status__hosts=pg1,pg2 pg-status check
      test a configuration
  pg_status__hosts=pg1,pg2 pg-status
      run the daemon
  pg-status hosts --watch --url http://127.0.0.1:8000
      the state of all hosts, updated as it changes
  pg-status clusters
      the state of all clusters, those with problems first
  pg-status explain 'replica?lag_ms=50'
      why each host is selected, or is not
"""
_CHECK_EXAMPLES = """
examples:
  pg-status check
  pg_status__env_file=/etc/pg-status/pg-status.env pg-status check
  pg-status check --json | jq -r '.hosts[] | select(.verdict != "OK").host'
  pg-status check --cluster orders
"""
_CLUSTERS_EXAMPLES = """
examples:
  pg-status clusters --watch
  pg-status clusters --json | jq -r '.clusters[] | select(.level != "ok").name'
"""
_HOSTS_EXAMPLES = """
examples:
  pg-status hosts --watch
  pg-status hosts --url https://ops.example.org/pg-status --token-file token
  PG_STATUS_URL=http://127.0.0.1:8000 pg-status hosts
  pg-status hosts --url unix:/run/pg-status/http.sock
  pg-status hosts --cluster orders
  pg-status hosts --url http://127.0.0.1:8000/c/orders
  pg-status hosts --json | jq -r '.hosts[] | select(.in_sync).host'
"""
_EXPLAIN_EXAMPLES = """
examples:
  pg-status explain master
  pg-status explain 'replica?lag_ms=50&min_lsn=0/3000060'
  pg-status explain sync_by_time --json
  pg-status explain master --cluster orders
"""
_HEALTH_EXAMPLES = """
examples:
  pg-status health                      the health check of a container
  pg-status health /ready --url http://127.0.0.1:8000
  pg-status health --cluster orders
"""
_DEMO_EXAMPLES = """
examples:
  pg-status demo --port 8001
  pg-status demo --bindir /usr/lib/postgresql/17/bin
  pg-status failover                    in a second terminal: crash the primary
"""
_FAILOVER_EXAMPLES = """
examples:
  pg-status failover
"""
_RELOAD_EXAMPLES = """
examples:
  pg-status reload --pid "$(systemctl show --value -p MainPID pg-status@orders)"
  docker exec pg-status python3 -m pgstatus reload --pid 1
  pg-status reload --pid 4711 --url http://127.0.0.1:8000
"""


def parser(commands: Mapping[str, Run]) -> argparse.ArgumentParser:
    """``commands``: what to run for each command; ``""``: without a command."""
    top = _Parser(
        prog="pg-status",
        description="Monitors PostgreSQL hosts and reports over HTTP which one is the master and "
        "which replicas are in sync. Without a command it starts the daemon. It is configured by "
        "environment variables pg_status__*; pg_status__hosts is required.",
        epilog=_EXAMPLES,
        formatter_class=_Help,
    )
    top.add_argument("--version", action="version", version=__version__)
    top.set_defaults(run=commands[""])
    choices = top.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, text: str, epilog: str = "") -> argparse.ArgumentParser:
        command = choices.add_parser(
            name, help=text, description=_sentence(text), epilog=epilog, formatter_class=_Help
        )
        command.set_defaults(run=commands[name])
        return command

    demo = add(
        "demo",
        "start a temporary PostgreSQL cluster (a primary, two replicas) and monitor it",
        "exit status: 0 it was stopped; 1 it cannot be started, or the daemon has ended; "
        f"{_USAGE}.\n{_DEMO_EXAMPLES}",
    )
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
    demo.add_argument(
        "--port", type=_number(65_535), default=8000, help="HTTP port (default: 8000)"
    )
    add(
        "failover",
        "crash the primary of the running demo and promote a replica",
        "exit status: 0 /master returns another host; 1 no demo is running, or no other host "
        f"is returned within 30 s; {_USAGE}.\n{_FAILOVER_EXAMPLES}",
    )
    check = add(
        "check",
        "test the configuration: check every host once, and print missing privileges",
        "exit status: 0 all hosts responded; 1 a host did not, or the configuration of one of "
        f"several clusters cannot be used; {_UNUSABLE}\n{_CHECK_EXAMPLES}",
    )
    check.add_argument("--config-only", action="store_true", help="do not connect to the hosts")
    _add_cluster(check, "check")
    _add_output(check)
    clusters = add(
        "clusters",
        "print the state of all clusters of a running instance, those with problems first",
        f"exit status: 0 all clusters have a master; 3 one has none; {_REACHED}\n"
        f"{_CLUSTERS_EXAMPLES}",
    )
    _add_watch(clusters, "update the table every SECONDS (default: 1) until Ctrl-C")
    _add_output(clusters)
    hosts = add(
        "hosts",
        "print the state of all hosts of a running instance",
        f"exit status: 0 there is a master; 3 there is no master; {_REACHED}\n{_HOSTS_EXAMPLES}",
    )
    _add_watch(hosts, "show every change until Ctrl-C, and the lag every SECONDS (default: 1)")
    _add_output(hosts)
    explain = add(
        "explain",
        "print for each host why an endpoint selects it, or does not",
        "exit status: 0 a host is selected; 3 no host is selected; "
        f"1 {_REFUSED}, unknown endpoint, invalid limit); {_UNUSABLE}\n"
        f"{_EXPLAIN_EXAMPLES}",
    )
    explain.add_argument("question", help="an endpoint with its limits, as in 'replica?lag_ms=50'")
    _add_output(explain)
    health = add(
        "health",
        "test whether a running instance is healthy",
        f"exit status: 0 healthy; 1 not healthy, or {_REFUSED}); {_UNUSABLE}\n{_HEALTH_EXAMPLES}",
    )
    health.add_argument(
        "path",
        nargs="?",
        default="/health",
        choices=["/live", "/ready", "/health"],
        help="the endpoint to request (default: %(default)s)",
    )
    reload = add(
        "reload",
        "have a running instance read its configuration again, and wait for the result",
        "exit status: 0 the configuration is in effect; 1 it was refused, or the instance cannot "
        f"be reached, or the process is not pg-status; {_UNUSABLE}\n{_RELOAD_EXAMPLES}",
    )
    reload.add_argument(
        "--pid", type=_number(2**31 - 1), required=True, help="the process; in a container: 1"
    )
    _add_instance(clusters)
    _add_instance(reload, "the configuration of this process")
    for command in (hosts, explain, health):
        _add_cluster(_add_instance(command), "request")
    return top


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        """Unlike that of the base class it does not ignore errors, such as a full disk."""
        if message:
            (file or sys.stderr).write(message)


class _Help(argparse.HelpFormatter):
    """Keeps the line breaks of an epilog."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = (
            text.split("\nexamples:\n", 1) if not text.startswith("examples:") else ["", text]
        )
        first = super()._fill_text(paragraphs[0], width, indent)
        if len(paragraphs) == 1:
            return first
        examples = paragraphs[1].removeprefix("examples:\n")
        return f"{first}\n\nexamples:\n{examples}".lstrip("\n")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="write JSON, for programs")
    parser.add_argument(
        "--color",
        "--colour",
        dest="colour",
        choices=["auto", "always", "never"],
        default="auto",
        help="colours; auto: on a terminal, unless NO_COLOR is set (default: auto)",
    )


def _add_watch(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--watch", metavar="SECONDS", nargs="?", type=_seconds, const=1.0, help=text
    )


def _add_cluster(parser: argparse._ActionsContainer, verb: str) -> None:
    parser.add_argument(
        "--cluster",
        metavar="NAME",
        help=f"{verb} only this one of several clusters "
        "(default: the environment variable PG_STATUS_CLUSTER)",
    )


def _add_instance(
    parser: argparse.ArgumentParser, configuration: str = "this configuration"
) -> argparse._ArgumentGroup:
    group = parser.add_argument_group(
        "instance",
        "Without --url and PG_STATUS_URL: the instance on this machine that runs with "
        f"{configuration}.",
    )
    group.add_argument(
        "--url",
        default=os.environ.get("PG_STATUS_URL") or None,
        help="http://host:port or https://host:port, either with a path, such as /c/NAME for one "
        "of several clusters, or unix:/path (default: the environment variable PG_STATUS_URL)",
    )
    group.add_argument("--token-file", metavar="FILE", help="file with a bearer token, for the URL")
    group.add_argument(
        "--ca", metavar="FILE", help="authority that issued the server's certificate, for the URL"
    )
    group.add_argument("--cert", metavar="FILE", help="client certificate, for the URL")
    group.add_argument("--key", metavar="FILE", help="key of the client certificate")
    return group


def _number(most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if 1 <= int(text) <= most:
                return int(text)
        raise argparse.ArgumentTypeError(f"expected a whole number, from 1 to {most}")

    return parse


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0.1 <= float(text) <= 86_400:
            return float(text)
    raise argparse.ArgumentTypeError("expected seconds, from 0.1 to 86400")
