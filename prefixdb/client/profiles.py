"""Named sets of connection settings, shared by the SDK and the command line.

    $XDG_CONFIG_HOME/prefixdb/profiles.toml            current = "prod"   [profiles.prod] endpoint = "…"
    $XDG_CONFIG_HOME/prefixdb/credentials/prod.token   mode 0600, in a directory of mode 0700
    $XDG_CONFIG_HOME/prefixdb/credentials/prod.login   the same: a login, see ``login_file``

The configuration names these files and never holds a secret, so it can be shown to others. Writes replace the whole
file atomically.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from prefixdb.disk import sync_directory
from prefixdb.errors import Reason, error

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATHS = ("token_file", "credentials_file", "tls_ca", "tls_cert", "tls_key")
_KINDS: dict[str, tuple[type, ...]] = {
    "endpoint": (str,),
    "database": (int,),
    "insecure": (bool,),
    "timeout_s": (int, float),
    "token_file": (str,),
    "credentials_file": (str,),
    "namespace": (str, int),
    "tls_ca": (str,),
    "tls_cert": (str,),
    "tls_key": (str,),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """Connection settings under a name; None where the profile is silent.

    credentials_file: a login that ``prefixdb login`` keeps there; instead of ``token_file``.
    namespace: name (text) or id (number) of the namespace to work in.
    """

    endpoint: str | None = None
    token_file: Path | None = None
    credentials_file: Path | None = None
    namespace: int | str | None = None
    database: int | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Profiles:
    """The whole file: every profile, and which one is used when none is named."""

    current: str | None
    profiles: dict[str, Profile]


def config_dir() -> Path:
    """Return the directory of the configuration, which need not exist."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification says to ignore a relative path.
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "prefixdb"


def profiles_path() -> Path:
    """Return the path of the file with the profiles."""
    return config_dir() / "profiles.toml"


def credentials_path(name: str) -> Path:
    """Return where the token of a profile is kept when the user gave none of his own files."""
    return config_dir() / "credentials" / f"{check_name(name)}.token"


def login_path(name: str) -> Path:
    """Return where the login of a profile is kept; see ``prefixdb.client.login_file``."""
    return config_dir() / "credentials" / f"{check_name(name)}.login"


def check_name(name: str) -> str:
    """Return ``name`` if it can be the name of a profile, and so of a file.

    Raises:
        InvalidArgumentError: BAD_NAME.
    """
    if not _NAME.fullmatch(name):
        message = "The name of a profile is 1 to 64 letters, digits and '._-', the first a letter or a digit."
        raise error(Reason.BAD_NAME, message)
    return name


def load_profiles() -> Profiles:
    """Return what the file says; nothing when there is none.

    Raises:
        InvalidArgumentError: BAD_FIELD when the file is damaged or has a setting that does not exist.
    """
    path = profiles_path()
    try:
        parsed = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Profiles(None, {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise error(Reason.BAD_FIELD, f"{path} is not TOML: {cause}.") from cause
    current = parsed.pop("current", None)
    tables = parsed.pop("profiles", {})
    if parsed or not isinstance(tables, dict) or not isinstance(current, str | None):
        raise error(Reason.BAD_FIELD, f"{path} may hold 'current' and tables [profiles.NAME], nothing else.")
    return Profiles(current, {name: _profile(path, name, table) for name, table in tables.items()})


def load_profile(name: str) -> Profile:
    """Return one profile.

    Raises:
        InvalidArgumentError: BAD_NAME when there is none of this name, or as ``load_profiles``.
    """
    known = load_profiles().profiles
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        message = (
            f"There is no profile {name!r} in {profiles_path()} (there: {names}); make it by logging in with 'prefixdb "
            f"--profile {name} login', or with 'prefixdb profile set {name}'."
        )
        raise error(Reason.BAD_NAME, message)
    return known[name]


def save_profile(name: str, profile: Profile, *, make_current: bool = False) -> None:
    """Write a profile, replacing the one of that name."""
    check_name(name)
    known = load_profiles()
    current = name if make_current or known.current is None else known.current
    _write(Profiles(current, known.profiles | {name: profile}))


def use_profile(name: str) -> None:
    """Make a profile the one that is used when none is named."""
    load_profile(name)
    _write(replace(load_profiles(), current=name))


def remove_profile(name: str) -> None:
    """Remove a profile, its stored token and its login. The tokens stay valid until they expire or are revoked."""
    load_profile(name)
    known = load_profiles()
    rest = {other: profile for other, profile in known.profiles.items() if other != name}
    _write(Profiles(None if known.current == name else known.current, rest))
    credentials_path(name).unlink(missing_ok=True)
    login_path(name).unlink(missing_ok=True)


def store_token(name: str, token: str) -> Path:
    """Keep a token for a profile in a file of mode 0600 and return its path."""
    path = credentials_path(name)
    _directory(config_dir())
    _directory(path.parent)
    write_private(path, token.strip() + "\n")
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, atomically: never a moment with wider permissions."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _profile(path: Path, name: str, table: Any) -> Profile:
    """Return one table of the file as a profile; an unknown setting is an error with its path."""
    if not isinstance(table, dict):
        raise error(Reason.BAD_FIELD, f"{path}: profiles.{name} is not a table.")
    for setting, value in table.items():
        kind = _KINDS.get(setting)
        if kind is None:
            known = ", ".join(_KINDS)
            raise error(Reason.BAD_FIELD, f"{path}: there is no setting profiles.{name}.{setting}; there are {known}.")
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
            raise error(Reason.BAD_FIELD, f"{path}: profiles.{name}.{setting} has a value of the wrong type.")
    paths = {setting: Path(table[setting]).expanduser() for setting in _PATHS if setting in table}
    return Profile(**{**table, **paths})


def _write(profiles: Profiles) -> None:
    """Replace the file."""
    lines = ["# Connection profiles of prefixdb. Tokens are not in here: see token_file."]
    if profiles.current is not None:
        lines.append(f"current = {_toml(profiles.current)}")
    for name, profile in sorted(profiles.profiles.items()):
        lines += ["", f"[profiles.{_toml(name)}]"]
        values = {item.name: getattr(profile, item.name) for item in fields(Profile)}
        lines += [f"{setting} = {_toml(value)}" for setting, value in values.items() if value is not None]
    _directory(config_dir())
    write_private(profiles_path(), "\n".join(lines) + "\n")


def _toml(value: str | Path | float | bool) -> str:
    """Return a value in TOML. Its basic strings escape as JSON's do, but for DEL."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")


def _directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
