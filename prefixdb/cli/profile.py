"""``prefixdb profile``: named sets of connection settings."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from prefixdb.cli.arguments import read_secret_line
from prefixdb.cli.base import given_flags, group, profile_names
from prefixdb.cli.logins import home_words, kept_login
from prefixdb.cli.ns_show import iso
from prefixdb.cli.output import put_json, put_table, say
from prefixdb.cli.session import confirm
from prefixdb.cli.settings import Settings, load_settings, namespace_text, usage_errors
from prefixdb.client.profiles import (
    Profile,
    check_name,
    credentials_path,
    load_profile,
    load_profiles,
    login_path,
    profiles_path,
    remove_profile,
    save_profile,
    store_token,
    use_profile,
)


@group("profile")
def profile() -> None:
    """Named sets of connection settings."""


@profile.command("list")
def list_() -> None:
    """List the profiles; the current one is marked."""
    settings = load_settings_without_profile()
    with usage_errors():
        known = load_profiles()
    if settings.json:
        for name, item in sorted(known.profiles.items()):
            values = {key: str(value) if isinstance(value, Path) else value for key, value in _values(item).items()}
            put_json({"name": name, "current": name == known.current} | values | {"login": _login_json(item)})
        return
    rows = [
        [
            "*" if name == known.current else "",
            name,
            item.endpoint or "-",
            _credentials(item),
            "-" if item.namespace is None else namespace_text(item.namespace),
            "-" if item.database is None else str(item.database),
            "yes" if item.tls_ca or item.tls_cert else "no",
        ]
        for name, item in sorted(known.profiles.items())
    ]
    if rows:
        put_table(
            settings,
            ["", "name", "endpoint", "login or token", "namespace", "database", "TLS"],
            rows,
            [5],
            sparse=[4, 5],
        )
    else:
        say(settings, "There are no profiles yet; 'prefixdb login' or 'prefixdb profile set NAME' makes one.")


def _credentials(item: Profile) -> str:
    """Return in words how a profile proves who one is."""
    if item.credentials_file is None:
        return str(item.token_file or "-")
    kept = kept_login(item.credentials_file)
    if kept is None:
        return "no login any more"
    ends = kept.refresh_expires_at
    over = ", ended" if ends is not None and ends <= datetime.now(UTC) else ""
    home = f" of {home_words(kept.home)}" if home_words(kept.home) != kept.namespace_name else ""
    return f"{kept.user}{home} in {kept.namespace_name}{over}"


def _login_json(item: Profile) -> dict[str, Any] | None:
    kept = kept_login(item.credentials_file)
    if kept is None:
        return None
    facts = {"user": kept.user, "home": home_words(kept.home), "namespace_name": kept.namespace_name}
    return facts | {"namespace_id": str(kept.namespace_id), "expires_at": iso(kept.refresh_expires_at)}


@profile.command("use")
@click.argument("name", shell_complete=profile_names)
def use(name: str) -> None:
    """Make NAME the profile that is used when none is named."""
    settings = load_settings_without_profile()
    with usage_errors():
        use_profile(name)
    say(settings, f"Profile {name} is current now.")


@profile.command("set")
@click.argument("name", shell_complete=profile_names)
@click.option("--current", is_flag=True, help="Also make it the current profile.")
@click.pass_context
def set_(context: click.Context, name: str, current: bool) -> None:
    """Make profile NAME or change it, from the global options given.

    \b
    Kept are --endpoint, --token-file, --namespace, --database, --tls-ca, --tls-cert, --tls-key,
    --insecure and --timeout. '--token-file -' reads the token from standard input and keeps it in a
    file of mode 0600 beside the profiles; another file stays where it is and is only named. Instead
    of a token, 'prefixdb login' keeps a login.
    """
    settings = load_settings_without_profile()
    with usage_errors():
        check_name(name)
        known = load_profiles().profiles
        _check_no_login(name, known.get(name, Profile()), given_flags(context))
        changes = _changes(name, settings, given_flags(context))
    if not changes and name not in known:
        raise click.UsageError("Nothing to keep: give at least --endpoint or --token-file.")
    save_profile(name, dataclasses.replace(known.get(name, Profile()), **changes), make_current=current)
    is_current = load_profiles().current == name
    say(settings, f"Profile {name} written to {profiles_path()}{'; it is current' if is_current else ''}.")


def _check_no_login(name: str, before: Profile, flags: dict[str, Any]) -> None:
    """Refuse a token for a profile that has a login, and another server for its tokens."""
    if before.credentials_file is None:
        return
    for flag in ("token_file", "endpoint"):
        if flag in flags and not (flag == "endpoint" and flags[flag] == before.endpoint):
            raise click.UsageError(
                f"Profile {name} has a login, which --{flag.replace('_', '-')} would cut off; nothing was changed. End "
                f"it first: prefixdb --profile {name} logout (--forget if its server is gone)"
            )


@profile.command("remove")
@click.argument("name", shell_complete=profile_names)
def remove(name: str) -> None:
    """Remove profile NAME and the token or login that was stored with it."""
    settings = load_settings_without_profile()
    with usage_errors():
        load_profile(name)
    stored = credentials_path(name).exists()
    login = login_path(name).exists()
    what = "its login, which 'prefixdb logout' would also end" if login else "its stored token"
    confirm(settings, f"This removes profile {name} and {what if stored or login else 'no secret'}.", name)
    remove_profile(name)
    rest = " Its token stays valid until it expires or a guardian revokes it." if stored else ""
    if login:
        rest += " Its login was not ended; it stays good for whoever has a copy, for seven days at most."
    say(settings, f"Profile {name} is removed; it cannot be undone.{rest}")


def load_settings_without_profile() -> Settings:
    """Return the settings for commands about profiles, where a missing current profile must not be in the way."""
    context = click.get_current_context()
    flags = given_flags(context)
    if "profile" in flags:
        raise click.UsageError("This command takes the profile's NAME as its argument, not --profile.")
    return load_settings(context, use_profiles=False)


def _changes(name: str, settings: Settings, flags: dict[str, Any]) -> dict[str, Any]:
    """Return the profile's fields that were given as flags."""
    changes: dict[str, Any] = {}
    for setting in ("endpoint", "namespace", "database", "insecure"):
        if setting in flags:
            changes[setting] = settings.by_name[setting].value
    for setting in ("tls_ca", "tls_cert", "tls_key"):
        if setting in flags:
            changes[setting] = settings.by_name[setting].value.absolute()
    if "timeout" in flags:
        changes["timeout_s"] = settings.timeout
    if "endpoint" in changes:
        from prefixdb.client.options import normal_endpoint

        changes["endpoint"] = normal_endpoint(changes["endpoint"])
    if "token_file" in flags:
        changes["token_file"] = _token_file(name, settings.token_file)
    return changes


def _token_file(name: str, given: Path) -> Path:
    """Return the file to name in the profile, after keeping a token from standard input."""
    if given != Path("-"):
        if not given.is_file():
            raise click.UsageError(f"There is no token file {given}.")
        return given.absolute()
    token = read_secret_line()
    if not token:
        raise click.UsageError("--token-file - needs the token on the first line of standard input.")
    return store_token(name, token)


def _values(item: Profile) -> dict[str, Any]:
    return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
