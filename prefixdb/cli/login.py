"""``prefixdb login`` and ``prefixdb logout``: a member's tokens, kept in a profile."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefixdb.cli.advice import explain_login
from prefixdb.cli.arguments import NAMESPACE
from prefixdb.cli.base import command
from prefixdb.cli.logins import home_words, kept_login
from prefixdb.cli.ns_show import iso
from prefixdb.cli.output import can_ask, put_json, say
from prefixdb.cli.passwords import PASSWORD_FILE_HELP, known_password
from prefixdb.cli.session import At, ask, connected, endpoint_of, tls_of
from prefixdb.cli.settings import Settings, load_settings, namespace_text, usage_errors
from prefixdb.cli.text import instant
from prefixdb.client.profiles import Profile, load_profiles, login_path, profiles_path, save_profile
from prefixdb.errors import PrefixdbError, Reason, UnauthenticatedError, UnavailableError

if TYPE_CHECKING:
    from prefixdb.client.logins import LoginTokens
    from prefixdb.client.models import LoginInfo


@dataclass(frozen=True, slots=True)
class _Who:
    """Whose login: ``home`` is where the member belongs, ``into`` where to land, None for the main namespace."""

    user: str
    home: int | str
    into: int | str | None


@command("login")
@click.option("--user", metavar="USER", help="Who logs in. [as before, or asked for]")
@click.option(
    "--home",
    type=NAMESPACE,
    metavar="NAMESPACE",
    help="Where the member belongs, when --namespace is another one to land in: usually 'default'.",
)
@click.option("--password-file", metavar="FILE", help=PASSWORD_FILE_HELP)
def login(user: str | None, home: int | str | None, password_file: str | None) -> None:
    """Log in with a password and keep the login in the profile.

    \b
    --namespace sales                    a member of sales
    --home default --namespace sales     a member of the default namespace, landing in sales by a grant
    neither                              a member of the default namespace, landing in its main namespace

    The profile is the one of --profile, the current one, or 'default'; it is made if need be. Its tokens renew
    themselves for as long as it is used once in seven days. Without options the login the profile has is repeated.
    """
    settings = load_settings(make_profile=True)
    before = load_profiles().profiles.get(settings.profile, Profile())
    _check_place(settings, before)
    last = kept_login(before.credentials_file)
    who = _who(settings, user, home, last)
    path = login_path(settings.profile)
    info = _log_in(settings, who, path, password_file)
    after = dataclasses.replace(
        _profile_after(settings, before, path), namespace=_kept_namespace(settings, who, before)
    )
    save_profile(settings.profile, after)
    _say_login(settings, who, info, before)
    if last is not None and (last.user, home_words(last.home)) != (who.user, home_words(who.home)):
        old = f"{last.user} in {last.namespace_name}"
        say(settings, f"Profile {settings.profile} had the login of {old} until now; it is replaced, but not ended.")
    if before.namespace not in {None, after.namespace}:
        name = namespace_text(before.namespace) if before.namespace is not None else ""
        say(settings, f"Profile {settings.profile} named namespace {name} until now; that is replaced.")


def _check_place(settings: Settings, before: Profile) -> None:
    """Refuse to point a profile to another server on the way."""
    if before.endpoint is None or settings.by_name["endpoint"].source.startswith("profile"):
        return
    wanted = endpoint_of(settings)
    if wanted != before.endpoint:
        change = f"prefixdb profile set {settings.profile} --endpoint {wanted}"
        if before.credentials_file is not None:
            change = f"prefixdb --profile {settings.profile} logout (--forget if its server is gone), then {change}"
        raise click.UsageError(
            f"Profile {settings.profile} is for {before.endpoint}, and this would be a login at {wanted}. Name another "
            f"profile with --profile, or change this one first: {change}"
        )


def _who(settings: Settings, user: str | None, home: int | str | None, last: LoginTokens | None) -> _Who:
    """Return whose login it is to be: as the options say, else as the last time, else as a person answers."""
    named = settings.given("namespace")
    if last is not None and user in {None, last.user} and home is None and not named:
        into = (
            settings.namespace
        )  # The profile's: where it landed by choice; the main namespace may be another one now.
        at = last.home or 0
        return _Who(last.user, at, None if into == at else into)
    if user is None:
        if not can_ask():
            raise click.UsageError("Who logs in? Say it with --user USER; nobody can be asked here.")
        user = ask("User").strip()
    if home is None:
        return _Who(user, 0 if settings.namespace is None else settings.namespace, None)
    return _Who(user, home, settings.namespace)


def _log_in(settings: Settings, who: _Who, path: Path, password_file: str | None) -> LoginInfo:
    endpoint = endpoint_of(settings)
    from prefixdb.client.options import ClientOptions
    from prefixdb.client.sync import connect

    password = known_password(password_file, f"{who.user} of namespace {home_words(who.home)}")
    with usage_errors():
        options = ClientOptions(
            endpoint=endpoint,
            user=who.user,
            password=password,
            home=who.home,
            namespace=who.into,
            credentials_file=path,
            tls=tls_of(settings),
            insecure=settings.insecure,
            deadline_s=settings.timeout,
        )
    try:
        with connect(options=options) as db:
            return db.login()
    except PrefixdbError as failure:
        explain_login(failure, settings, who.user, who.home)
        raise


def _profile_after(settings: Settings, before: Profile, path: Path) -> Profile:
    """Return the profile with the login in place of a token, and with how its server is reached."""
    changes: dict[str, Any] = {"endpoint": endpoint_of(settings), "token_file": None, "credentials_file": path}
    for name in ("tls_ca", "tls_cert", "tls_key"):
        if settings.given(name):
            changes[name] = settings.by_name[name].value.absolute()
    if settings.given("insecure"):
        changes["insecure"] = settings.insecure
    return dataclasses.replace(before, **changes)


def _kept_namespace(settings: Settings, who: _Who, before: Profile) -> int | str | None:
    """Return the namespace the profile is to name: one that was chosen to land in, so that the next login does too."""
    if settings.given("namespace"):
        return who.into
    return before.namespace


def _say_login(settings: Settings, who: _Who, info: LoginInfo, before: Profile) -> None:
    if settings.json:
        put_json(
            {
                "user": info.user,
                "home": home_words(who.home),
                "namespace_id": str(info.namespace_id),
                "namespace_name": info.namespace_name,
                "profile": settings.profile,
                "expires_at": iso(info.expires_at),
            }
        )
    guest = (
        f", a member of {home_words(who.home)}" if info.namespace_id != 0 and home_words(who.home) == "default" else ""
    )
    say(settings, f"Logged in to namespace {info.namespace_name} as {info.user}{guest}.")
    if before.token_file is not None:
        say(
            settings,
            f"Profile {settings.profile} used the token in {before.token_file} until now; that file is untouched.",
        )
    current = load_profiles().current == settings.profile
    name = settings.profile
    how = "it is current." if current else f"choose it with --profile {name}, or for good: prefixdb profile use {name}"
    say(settings, f"Profile {name} has the login until {instant(info.expires_at)}, and longer in use; {how}")
    if settings.given("token_file"):
        where = settings.by_name["token_file"].source
        say(settings, f"It does not count while a token is named: here by the {where}.")


@command("logout")
@click.option("--everywhere", is_flag=True, help="End every login of the member, on all machines.")
@click.option("--forget", is_flag=True, help="Only remove it from this machine; the server is not asked.")
def logout(everywhere: bool, forget: bool) -> None:
    """End the login of the profile.

    Its tokens are refused from the next request on. The profile stays, without a login; service tokens are not touched.
    """
    settings = load_settings()
    if everywhere and forget:
        raise click.UsageError("Give either --everywhere or --forget.")
    path: Path | None = settings.credentials_file
    if path is None:
        raise click.UsageError(_no_login(settings))
    ended = "Removed from this machine only; until it expires the login stays good for whoever has a copy."
    if not forget:
        ended = _end(settings, everywhere=everywhere)
    _forget(settings, path)
    if settings.json:
        put_json({"profile": settings.profile, "logged_out": True, "everywhere": everywhere})
    say(settings, ended)


def _end(settings: Settings, *, everywhere: bool) -> str:
    """End the login on the server and return what happened; one that had ended is no failure.

    Raises:
        UnauthenticatedError: other logins were to be ended too, which takes one that is alive.
    """
    from prefixdb.client.login_file import LoginFile

    try:
        with connected(settings, At.NAMED) as db:
            if LoginFile(settings.credentials_file).read() is not None:
                db.logout(everywhere=everywhere)
                return f"Logged out{': every login of the member has ended' if everywhere else ''}."
    except UnavailableError as failure:
        if failure.reason is Reason.UNREACHABLE:
            failure.add_note(
                "The login has not ended. If that server is gone, only remove it here: "
                f"prefixdb --profile {settings.profile} logout --forget"
            )
        raise
    except UnauthenticatedError as failure:
        if everywhere or failure.reason not in {Reason.TOKEN_REVOKED, Reason.TOKEN_EXPIRED}:
            raise
    return "The login had ended before; it is removed from this machine too."


def _no_login(settings: Settings) -> str:
    if settings.given("token_file"):
        return "logout ends the login of a profile; leave --token-file and PREFIXDB_TOKEN_FILE out."
    if settings.profile is None:
        return f"There is nothing to end: {profiles_path()} has no current profile. Name one with --profile."
    return f"There is nothing to end: profile {settings.profile} has no login."


def _forget(settings: Settings, path: Path) -> None:
    """Remove the tokens, and their name from the profile."""
    path.unlink(missing_ok=True)
    kept = load_profiles().profiles.get(settings.profile)
    if kept is not None:
        save_profile(settings.profile, dataclasses.replace(kept, credentials_file=None))
