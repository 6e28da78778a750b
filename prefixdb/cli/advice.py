"""What to do next when the answer depends on who called and how: settings turn an error's reason into a sentence.

What a reason calls for in general stands in ``failures``; this comes first. The sentence travels with the error as its
note (PEP 678), for the error is shown where the settings are not known any more.
"""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

from prefixdb.cli.logins import DEFAULT_NAMESPACE, home_words, kept_login, of_default
from prefixdb.cli.settings import Settings, namespace_text
from prefixdb.errors import PrefixdbError, Reason

if TYPE_CHECKING:
    from prefixdb.client.options import ClientOptions

NO_TOKEN = "There is no token: neither --token-file nor PREFIXDB_TOKEN_FILE is set, and no profile has one."

ANOTHER_CERTIFICATE = "Use the certificate made for that name (--tls-cert, --tls-key), or a login or token of its name."
"""After a refusal by ``tls.subject``, whose words the server chose: what to do is not about rights."""

_ENDED = {Reason.TOKEN_REVOKED, Reason.TOKEN_EXPIRED, Reason.TOKEN_INVALID, Reason.TOKEN_MISSING}
"""What the server, or the login's file, says when a login cannot go on."""


def explain(failure: PrefixdbError, settings: Settings, options: ClientOptions) -> None:
    """Put words of the command line into an error of a call made with these settings."""
    if failure.reason is Reason.TOKEN_MISSING and not options.has_token and not options.has_login:
        failure.message = NO_TOKEN
        if settings.profile is not None:
            failure.message = NO_TOKEN.replace("no profile has one", f"profile {settings.profile} has no login")
            failure.add_note(
                f"Log in: {login_line(settings, '--user', 'USER')}; who does not belong to the default namespace adds "
                "--namespace NAMESPACE. Or name a token file, --token-file."
            )
        failure.args = (failure.message,)
    elif words := _advice(failure, settings, options):
        failure.add_note(words)


def explain_login(failure: PrefixdbError, settings: Settings, user: str, home: int | str) -> None:
    """Put words of the command line into an error of a login."""
    who = ("--user", user, "--home", home_words(home))
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
            others = [name for name in names if name != DEFAULT_NAMESPACE] or [DEFAULT_NAMESPACE]
            left = f"Left are {', '.join(names)}." if names else "No other one is granted."
            failure.add_note(
                f"{left} Log in to one: {login_line(settings, *who, '--namespace', others[0])}. Or let a cluster "
                f"guardian choose a new main namespace: prefixdb user set {shlex.quote(user)} --main NAMESPACE"
            )
        case Reason.NOT_PERMITTED if _about_certificate(failure):
            failure.add_note(ANOTHER_CERTIFICATE)
        case Reason.NOT_PERMITTED:
            failure.add_note(
                "The password is right, but the login may not land there: that takes a grant, and the namespace has to "
                f"exist. Without --namespace it lands in the main namespace: {login_line(settings, *who)}"
            )
        case Reason.NAMESPACE_SUSPENDED | Reason.NAMESPACE_BANNED:
            failure.add_note(f"Another one may be granted: {login_line(settings, *who, '--namespace', 'NAMESPACE')}")
        case _:
            pass


def _advice(failure: PrefixdbError, settings: Settings, options: ClientOptions) -> str | None:
    if failure.reason in _ENDED and settings.credentials_file is not None:
        why = (
            "It was ended by a logout, a new password or a guardian. " if failure.reason is Reason.TOKEN_REVOKED else ""
        )
        return f"{why}Log in again: {login_line(settings)}"
    if failure.reason is Reason.NAMESPACE_BANNED and of_default(kept_login(settings.credentials_file)):
        return f"Log in again, to land in another namespace: {login_line(settings)}"
    if failure.reason is Reason.RATE_LIMITED and failure.retry_after_ms is not None:
        return _wait_words(failure)
    if failure.reason is Reason.NOT_PERMITTED and _about_certificate(failure):
        return ANOTHER_CERTIFICATE
    if failure.reason is Reason.NOT_PERMITTED and not options.has_token and not options.has_login:
        return f"You came without a token; this takes one. Log in: {login_line(settings, '--user', 'USER')}"
    if failure.reason is Reason.NOT_PERMITTED and options.namespace not in {None, 0}:
        return _other_namespace(failure, settings)
    if failure.reason is Reason.NOT_PERMITTED and settings.credentials_file is not None:
        return _as_guest(settings)
    return None


def _about_certificate(failure: PrefixdbError) -> bool:
    """True for a refusal because the client's certificate is in another name (``tls.subject``)."""
    return failure.metadata.get("certificate") == "subject"


def _as_guest(settings: Settings) -> str | None:
    """Return what a guest does whose grant may be gone: then even whoami is refused where the login landed."""
    login = kept_login(settings.credentials_file)
    if login is None or not of_default(login) or login.namespace_name == DEFAULT_NAMESPACE:
        return None
    return (
        f"'prefixdb whoami' shows what you may do in {login.namespace_name}. If that is refused too, the grant is "
        f"gone; log in again, to land elsewhere: {login_line(settings)}"
    )


def login_line(settings: Settings, *words: str) -> str:
    """Return the command that logs in to the profile in use; without words it remembers who it was."""
    profile = settings.by_name["profile"]
    named = [] if profile.value is None or profile.source == "current profile" else ["--profile", profile.value]
    return shlex.join(["prefixdb", *named, "login", *words])


def _other_namespace(failure: PrefixdbError, settings: Settings) -> str:
    """Return what to do when something is refused after --namespace."""
    name = shlex.quote(namespace_text(settings.namespace))
    source = "" if settings.given("namespace") and "flag" in settings.by_name["namespace"].source else _source(settings)
    if not _refused_to_enter(failure):
        return f"{source}'prefixdb whoami --namespace {name}' shows what you may do there."
    login = kept_login(settings.credentials_file)
    if login is not None and of_default(login):
        return (
            f"{source}'prefixdb ns list' shows the namespaces you may use; a cluster guardian grants others: "
            f"prefixdb grant add {login.user} {name} --group GROUP"
        )
    return (
        f"{source}Only members of the default namespace go from one to the next, after a login. Who belongs there logs "
        f"in with a profile of its own: prefixdb --profile {name} --namespace {name} login"
    )


def _source(settings: Settings) -> str:
    return f"The namespace was named by {settings.by_name['namespace'].source}. "


def _refused_to_enter(failure: PrefixdbError) -> bool:
    """True when the way into the namespace was refused: the client says that itself, or of another refusal."""
    return failure.__cause__ is None or isinstance(failure.__cause__, PrefixdbError)


def _wait_words(failure: PrefixdbError) -> str:
    seconds = max(1, math.ceil((failure.retry_after_ms or 1000) / 1000))
    return f"Wait {seconds} s and try again."
