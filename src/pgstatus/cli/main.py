"""The command ``pg-status``: the daemon, or the subcommand that the first argument names."""

import argparse
import logging
import os
import signal
import ssl
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pgstatus.cli.parser import Run, parser
from pgstatus.cli.streams import end_of_output, prepare, report, write_json
from pgstatus.errors import ConfigError, StartError, UnreachableError

if TYPE_CHECKING:
    from pgstatus.cli.remote import Instance
    from pgstatus.cli.show import Output


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (``sysexits.h`` where there is one for it)."""
    prepare()
    try:
        return _run(arguments)
    except ConfigError as error:
        _report_invalid(error)
        return os.EX_CONFIG
    except (StartError, UnreachableError) as error:
        report("error", str(error))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(arguments: Sequence[str] | None) -> int:
    options = argparse.Namespace(run=None)
    try:
        try:
            options = parser(_COMMANDS).parse_args(arguments)
            return int(options.run(options))
        finally:
            sys.stdout.flush()  # its errors are reported, also after --help
    except OSError as error:
        # The daemon prints nothing: its errors are about connections, or files with a name.
        if options.run is _serve and error.filename is None:
            raise
        reason = end_of_output(error)
        if reason is not None:
            report("error", reason)
        return 1


def _report_invalid(error: ConfigError) -> None:
    report("error", *error.problems)
    report("warning", *error.warnings)
    if error.hint is not None:
        report("hint", error.hint)


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
    from pgstatus.cli.verdict import FAILED, UNUSABLE, check_configuration  # noqa: PLC0415
    from pgstatus.settings.load import load, require_clusters  # noqa: PLC0415

    # The results of the checks are printed, not logged.
    logging.getLogger("pgstatus").setLevel(logging.CRITICAL)
    try:
        configuration = load(os.environ)
        require_clusters(configuration)
        report("warning", *configuration.warnings)
        if not options.config_only:
            from pgstatus.cli.check import check  # noqa: PLC0415

            return check(configuration, _cluster(options), _output(options))
        for problems in configuration.rejected.values():
            report("error", *problems)
        verdict, more = check_configuration(configuration, _cluster(options))
        status = 1 if verdict[0] == FAILED else 0
    except ConfigError as error:
        _report_invalid(error)
        verdict, more = UNUSABLE, {"problems": error.problems}
        status = os.EX_CONFIG
    word, text = verdict
    if options.json:
        write_json({"verdict": word, "summary": text, **more}, sys.stdout)
    else:
        sys.stdout.write(f"{word}: {text}\n")
    return status


def _hosts(options: argparse.Namespace) -> int:
    from pgstatus.cli.show import show_hosts  # noqa: PLC0415

    return show_hosts(_instance(options), options.watch, _output(options))


def _clusters(options: argparse.Namespace) -> int:
    from pgstatus.cli.show import show_clusters  # noqa: PLC0415

    return show_clusters(_instance(options), options.watch, _output(options))


def _explain(options: argparse.Namespace) -> int:
    from pgstatus.cli.show import show_explanation, unknown_parameters  # noqa: PLC0415

    report("warning", *unknown_parameters(options.question))
    return show_explanation(_instance(options), options.question, _output(options))


def _reload(options: argparse.Namespace) -> int:
    from pgstatus.cli.reload import (  # noqa: PLC0415
        environment_of,
        reload_and_wait,
        require_daemon,
    )

    require_daemon(options.pid)
    if options.url is not None:
        instance = _instance(options)
    else:
        with environment_of(options.pid) as environ:
            instance = _instance(options, environ)
    return reload_and_wait(instance.of_all, options.pid)


def _health(options: argparse.Namespace) -> int:
    from pgstatus.cli.state import not_found, refusal  # noqa: PLC0415

    instance = _instance(options)
    response = instance.probe(options.path)
    if response.is_ok:
        sys.stdout.write("OK\n")
        return 0
    if response.status == 404:
        raise not_found(instance, response)
    report("error", f"{options.path}: status {response.status}: {refusal(response)}")
    return 1


def _output(options: argparse.Namespace) -> "Output":
    from pgstatus.cli.show import Output  # noqa: PLC0415

    return Output(sys.stdout, options.colour, options.json)


def _cluster(options: argparse.Namespace) -> str | None:
    """The chosen cluster."""
    return getattr(options, "cluster", None) or os.environ.get("PG_STATUS_CLUSTER") or None


def _instance(options: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> "Instance":
    """The instance at ``--url`` or PG_STATUS_URL, or the one that runs with the configuration in
    ``environ``.

    The cluster of ``--cluster`` takes precedence over that of the URL, and the latter over
    PG_STATUS_CLUSTER.
    """
    from pgstatus.cli.remote import Instance, split_cluster  # noqa: PLC0415
    from pgstatus.settings.files import exposure  # noqa: PLC0415
    from pgstatus.settings.load import load  # noqa: PLC0415
    from pgstatus.settings.secrets import read_tokens  # noqa: PLC0415

    if options.url is None:
        if any((options.token_file, options.ca, options.cert, options.key)):
            raise StartError("--token-file, --ca, --cert and --key require --url or PG_STATUS_URL")
        try:
            return replace(Instance.of(load(environ).process), cluster=_cluster(options))
        except ConfigError as error:
            hint = "for an instance with another configuration use --url http://127.0.0.1:8000"
            raise ConfigError(error.problems, error.warnings, hint) from None
    for file in filter(None, (options.token_file, options.key)):
        remark = exposure(Path(file), is_secret=True)
        if remark is not None:
            report("warning", remark)
    try:
        token = options.token_file and read_tokens(Path(options.token_file))[0].decode()
        context = ssl.create_default_context(cafile=options.ca)
        if options.cert is not None:
            context.load_cert_chain(options.cert, options.key)
    except (OSError, ValueError) as error:
        raise StartError(f"the token or a certificate cannot be read: {error}") from None
    url, cluster = split_cluster(options.url)
    if cluster is None or getattr(options, "cluster", None):
        cluster = _cluster(options)
    return Instance(url, token, context, cluster=cluster)


_COMMANDS: Mapping[str, Run] = {
    "": _serve,
    "demo": _demo,
    "failover": _failover,
    "check": _check,
    "clusters": _clusters,
    "hosts": _hosts,
    "explain": _explain,
    "health": _health,
    "reload": _reload,
}
