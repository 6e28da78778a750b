"""What to do next when the answer depends on who called and how: settings turn an error's reason into a sentence.

What a reason calls for in general stands in ``failures``; this comes first. The sentence travels with the error as its
note (PEP 678), for the error is shown where the settings are not known any more.
"""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

from prefixdb.cli.settings import Settings, namespace_text
from prefixdb.errors import PrefixdbError, Reason

if TYPE_CHECKING:
    from prefixdb.client.options import ClientOptions

NO_TOKEN = "There is no token: neither --token-file nor PREFIXDB_TOKEN_FILE is set, and no profile has one."

_ENDED = {Reason.TOKEN_REVOKED, Reason.TOKEN_EXPIRED, Reason.TOKEN_INVALID, Reason.TOKEN_MISSING}
"""What the server, or the login's file, says when a login cannot go on."""


def explain(failure: PrefixdbError, settings: Settings, options: ClientOptions) -> None:
    """Put words of the command line into an error of a call made with these settings."""
    if failure.reason is Reason.TOKEN_MISSING and not options.has_token and not options.has_login:
        failure.message = NO_TOKEN
        failure.args = (NO_TOKEN,)
    elif words := _advice(failure, settings):
        failure.add_note(words)


def explain_login(failure: PrefixdbError, settings: Settings, user: str, home: int | str) -> None:
    """Put words of the command line into an error of a login."""
    again = f"prefixdb login --user {shlex.quote(user)} --home {shlex.quote(namespace_text(home))}"
    match failure.reason:
        case Reason.BAD_CREDENTIALS:
            failure.add_note(
                f"Tried was {user} of namespace {home_words(home)}; who belongs elsewhere says so with --namespace. "
                f"A guardian of it can set a new password: prefixdb user passwd {shlex.quote(user)}"
            )
        case Reason.RATE_LIMITED:
            failure.add_note(
                f"{_wait_words(failure)} Until then the right password is refused too; a wrong one makes it longer."
            )
        case Reason.MAIN_NAMESPACE_GONE:
            names = [name for name in failure.metadata.get("usable", "").split(",") if name]
            where = f"Left are {', '.join(names)}." if names else "No other one is granted to you."
            into = names[0] if names else "default"
            failure.add_note(
                f"{where} Log in there: {again} --namespace {shlex.quote(into)} - or let a cluster guardian choose a "
                f"new main namespace: prefixdb user set {shlex.quote(user)} --main NAMESPACE"
            )
        case Reason.NOT_PERMITTED:
            failure.add_note(
                "The password is right, but the login may not land there: that takes a grant, and the namespace has to "
                "exist. "
                f"Without --namespace a login lands in the main namespace: {again}"
            )
        case Reason.NAMESPACE_SUSPENDED | Reason.NAMESPACE_BANNED:
            failure.add_note(f"Log in to another namespace that is granted to you: {again} --namespace NAMESPACE")
        case _:
            pass


def home_words(home: int | str | None) -> str:
    """Return where a member belongs, as people call it."""
    return namespace_text(home) if home else "default"


def _advice(failure: PrefixdbError, settings: Settings) -> str | None:
    if failure.reason in _ENDED and settings.credentials_file is not None:
        return f"Log in again: {login_line(settings)}"
    if failure.reason is Reason.RATE_LIMITED and failure.retry_after_ms is not None:
        return _wait_words(failure)
    if failure.reason is Reason.NOT_PERMITTED and settings.namespace is not None:
        return _other_namespace(settings)
    return None


def login_line(settings: Settings) -> str:
    """Return the command that logs in to the profile again; it remembers who it was."""
    profile = settings.by_name["profile"]
    if profile.value is None or profile.source == "current profile":
        return "prefixdb login"
    return f"prefixdb login --profile {shlex.quote(profile.value)}"


def _other_namespace(settings: Settings) -> str:
    """Return what to do when something is refused after --namespace."""
    source = settings.by_name["namespace"].source
    name = namespace_text(settings.namespace)
    said = f"namespace {name} ({source})"
    if settings.credentials_file is None:
        return (
            f"You asked for {said}: only somebody who logged in can switch, by a grant. Log in "
            f"(prefixdb login --user USER), or use a token of that namespace."
        )
    return (
        f"You asked for {said}: 'prefixdb ns list' shows the namespaces you may use, 'prefixdb whoami --namespace "
        f"{shlex.quote(name)}' what you may do there. A cluster guardian grants more: prefixdb grant add USER "
        f"{shlex.quote(name)} --group readers"
    )


def _wait_words(failure: PrefixdbError) -> str:
    seconds = max(1, math.ceil((failure.retry_after_ms or 1000) / 1000))
    return f"Wait {seconds} s and try again."
