"""Files that libpq reads at a login: password file, certificates and keys.

libpq reports a missing or unusable file only at the login, and some problems only on standard
error. They are found here when the configuration is read.
"""

import os
import ssl
import stat
from pathlib import Path

from pgstatus.settings.files import is_file, read_file
from pgstatus.settings.libpq import Params

_NOWHERE = "/nonexistent/pg-status"
_GROUP_OR_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# The key of root may be readable by a group.
_KEY_OF_ROOT = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO


def password_file(params: Params, home: Path | None) -> Path | None:
    """The file in which libpq looks for a password; None if there is none."""
    if named := params.get("passfile"):
        return Path(named)
    default = home and home / ".pgpass"
    return default if default and is_file(default) else None


def password_file_warning(path: Path) -> str | None:
    """Why libpq would ignore its password file."""
    try:
        read_file(path)
        mode = path.stat().st_mode
    except OSError as error:
        return str(error)
    if mode & _GROUP_OR_OTHERS:
        return f"{path}: accessible by group or others; libpq ignores it (use chmod 600)"
    return None


def usable_password_file(path: str) -> str:
    """The path, or another one without a file if libpq would ignore it: libpq writes a warning to
    standard error at each login.
    """
    return _NOWHERE if password_file_warning(Path(path)) else path


def tls_problems(params: Params, home: Path | None) -> list[str]:
    """Why libpq could not use the certificates and keys of these parameters."""
    if params["host"].startswith("/") or params.get("sslmode") == "disable":
        return []
    directory = home and home / ".postgresql"
    problems = []
    for check in (_check_authorities, _check_revocations, _check_client):
        try:
            check(params, directory)
        except ssl.SSLError as error:
            files = [
                params[name] for name in ("sslrootcert", "sslcert", "sslkey") if name in params
            ]
            problems.append(f"{', '.join(files)}: OpenSSL: {error.reason or error}")
        except (OSError, ValueError) as error:
            problems.append(str(error))
    return problems


def _check_authorities(params: Params, directory: Path | None) -> None:
    root, mode = params.get("sslrootcert"), params.get("sslmode", "prefer")
    default = directory and directory / "root.crt"
    if root and root != "system":
        certificates = read_file(Path(root)).decode("ascii", "ignore")
        ssl.create_default_context(cadata=certificates)
    elif not root and mode.startswith("verify-") and not (default and is_file(default)):
        raise ValueError(
            f"sslmode={mode}: expected sslrootcert" + (f" or {default}" * bool(default))
        )


def _check_revocations(params: Params, _: Path | None) -> None:
    if crl := params.get("sslcrl"):
        read_file(Path(crl))
    if lists := params.get("sslcrldir"):
        os.scandir(lists).close()


def _check_client(params: Params, directory: Path | None) -> None:
    if params.get("sslcertmode") == "disable":
        return
    named = params.get("sslcert")
    certificate = Path(named) if named else directory and directory / "postgresql.crt"
    if certificate is None or not (named or is_file(certificate)):
        if params.get("sslkey"):
            raise ValueError("sslkey: expected sslcert, too")
        return
    key = params.get("sslkey") or (str(directory / "postgresql.key") if directory else "")
    if not key:
        raise ValueError("sslcert: expected sslkey, too")
    if ":" in key:  # a key in an OpenSSL engine
        return
    read_file(certificate)
    read_file(Path(key))
    status = Path(key).stat()
    if status.st_mode & (_KEY_OF_ROOT if status.st_uid == 0 else _GROUP_OR_OTHERS):
        raise ValueError(f"sslkey: {key}: accessible by others; libpq rejects it (use chmod 600)")

    def passphrase() -> str:
        if not params.get("sslpassword"):
            raise ValueError(f"sslkey: {key}: the key has a passphrase; expected sslpassword")
        return params["sslpassword"]

    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, passphrase)
