"""Which server, which token, how to print: every setting with its source. A flag beats a variable beats the profile.

flag --endpoint  >  variable PREFIXDB_ENDPOINT  >  profile "prod" (file)  >  default
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from prefixdb.cli.base import given_flags
from prefixdb.client.profiles import Profile, check_name, load_profile, load_profiles
from prefixdb.errors import InvalidArgumentError

DEFAULT_ENDPOINT = "127.0.0.1:7311"
DEFAULT_TIMEOUT_S = 5.0
DEFAULT_PROFILE = "default"
TRUE_WORDS = {"1", "true", "yes", "on"}
FALSE_WORDS = {"0", "false", "no", "off", ""}

_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*(ms|s|m|h|d|w)?")
_DURATION_S = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


@dataclass(frozen=True, slots=True)
class Setting:
    """One value and where it came from."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one run of the program."""

    by_name: Mapping[str, Setting]

    def given(self, name: str) -> bool:
        """True when a setting comes from the command line or from a variable, and so is meant for this very run."""
        return self.by_name[name].source.startswith(("flag", "variable"))

    def __getattr__(self, name: str) -> Any:
        """Return a setting's value by its name."""
        if name.startswith("_") or name not in self.by_name:
            raise AttributeError(name)
        return self.by_name[name].value


def parse_duration_s(text: str) -> float:
    """Return the seconds that ``text`` says: "500ms", "10s", "1.5h", "7d"; a bare number is seconds.

    Raises:
        ValueError: it is no duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write for example 500ms, 10s, 1h or 7d.")
    return float(match[1]) * _DURATION_S[match[2]]


def parse_namespace(text: str) -> int | str:
    """Return what names a namespace: the number of ``id:NUMBER``, else the text. Digits alone are a name.

    Raises:
        ValueError: it begins as an id and is none.
    """
    if not text.startswith("id:"):
        if not text:
            raise ValueError("a namespace has a name, or is written id:NUMBER.")
        return text
    digits = text[3:]
    if not digits.isascii() or not digits.isdigit() or int(digits) >= 2**64 - 1:
        raise ValueError(f"{text!r} is no namespace id; write id: and a number below 2^64-1.")
    return int(digits)


def namespace_text(namespace: int | str) -> str:
    """Return a namespace as ``parse_namespace`` reads it."""
    return f"id:{namespace}" if isinstance(namespace, int) else namespace


def _timeout(text: str) -> float:
    seconds = parse_duration_s(text)
    if seconds <= 0:
        raise ValueError("a timeout is longer than nothing.")
    return seconds


def _database(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise ValueError(f"{text!r} is no number from 0 to 65535.")
    return int(text)


def _truth(text: str) -> bool:
    if text.lower() not in TRUE_WORDS | FALSE_WORDS:
        raise ValueError(f"{text!r} is neither true nor false.")
    return text.lower() in TRUE_WORDS


def _encoding(text: str) -> str:
    if text not in {"auto", "utf8", "hex", "base64"}:
        raise ValueError(f"{text!r} is none of auto, utf8, hex, base64.")
    return text


def _path(text: str) -> Path:
    return Path(text).expanduser()


_PARSERS: dict[str, tuple[Callable[[str], Any], Any]] = {
    "endpoint": (str, DEFAULT_ENDPOINT),
    "token_file": (_path, None),
    "namespace": (parse_namespace, None),
    "database": (_database, 0),
    "tls_ca": (_path, None),
    "tls_cert": (_path, None),
    "tls_key": (_path, None),
    "insecure": (_truth, False),
    "timeout": (_timeout, DEFAULT_TIMEOUT_S),
    "json": (_truth, False),
    "enc": (_encoding, "auto"),
    "quiet": (_truth, False),
    "yes": (_truth, False),
    "no_color": (_truth, False),
}
"""Setting → how its text is read, and its default. ``tls_ca`` is --tls-ca and PREFIXDB_TLS_CA."""

_IN_PROFILE = {"timeout": "timeout_s"}
"""Settings that a profile has under another name."""


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn what is wrong with the settings into a usage error: nothing was sent yet."""
    try:
        yield
    except InvalidArgumentError as failure:
        raise click.UsageError(failure.message) from failure


def load_settings(
    context: click.Context | None = None, *, use_profiles: bool = True, make_profile: bool = False
) -> Settings:
    """Return the settings of this run.

    Args:
        context: of the command; None for the current one.
        use_profiles: without it only flags and variables count.
        make_profile: the profile need not exist yet, and is called "default" when none is named or current.

    Raises:
        click.UsageError: a flag or a variable has a value that cannot be, the profile does not exist, or the file of
            profiles is damaged.
    """
    context = context or click.get_current_context()
    flags = given_flags(context)
    name = flags.get("profile") or os.environ.get("PREFIXDB_PROFILE") or None
    source = "flag --profile" if "profile" in flags else "variable PREFIXDB_PROFILE"
    with usage_errors():
        if not use_profiles:
            name = None
        elif name is None:
            name, source = load_profiles().current, "current profile"
        if name is None and make_profile:
            name, source = DEFAULT_PROFILE, "the usual name"
        profile = _load_profile(name, may_be_new=make_profile)
    found = {"profile": Setting(name, source if name is not None else "default")}
    for setting, (parse, default) in _PARSERS.items():
        found[setting] = _resolve(setting, parse, default, flags, (name, profile))
        if setting == "token_file":
            found["credentials_file"] = _login_file(found[setting], name, profile)
    if os.environ.get("NO_COLOR") and not found["no_color"].value:
        found["no_color"] = Setting(True, "variable NO_COLOR")
    return Settings(found)


def _load_profile(name: str | None, *, may_be_new: bool) -> Profile:
    if name is None:
        return Profile()
    if may_be_new and check_name(name) not in load_profiles().profiles:
        return Profile()
    return load_profile(name)


def _login_file(token_file: Setting, name: str | None, profile: Profile) -> Setting:
    """Return the file of the profile's login. A token that is named here and now wins over it."""
    if profile.credentials_file is None or token_file.source.startswith(("flag", "variable")):
        return Setting(None, "default")
    return Setting(profile.credentials_file, f"profile {name}")


def _resolve(
    setting: str, parse: Callable[[str], Any], default: Any, flags: dict[str, Any], profile: tuple[str | None, Profile]
) -> Setting:
    flag, variable = f"--{setting.replace('_', '-')}", f"PREFIXDB_{setting.upper()}"
    if setting in flags:
        value = flags[setting]
        return Setting(_read(parse, value, flag) if isinstance(value, str) else value, f"flag {flag}")
    # An empty variable is a variable that is not set, as in most programs.
    if os.environ.get(variable):
        return Setting(_read(parse, os.environ[variable], variable), f"variable {variable}")
    name, values = profile
    value = getattr(values, _IN_PROFILE.get(setting, setting), None)
    return Setting(default, "default") if value is None else Setting(value, f"profile {name}")


def _read(parse: Callable[[str], Any], text: str, where: str) -> Any:
    try:
        return parse(text)
    except ValueError as failure:
        raise click.UsageError(f"{where}: {failure}") from failure
