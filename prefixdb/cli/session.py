"""From settings to a connected client. gRPC is imported here and not before."""

from __future__ import annotations

import enum
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefixdb.cli.advice import explain
from prefixdb.cli.arguments import read_secret_line
from prefixdb.cli.base import given_flags
from prefixdb.cli.logins import kept_login, of_default
from prefixdb.cli.settings import DEFAULT_ENDPOINT, Settings, namespace_text, usage_errors
from prefixdb.errors import PrefixdbError, Reason, error

if TYPE_CHECKING:
    from prefixdb.client.options import ClientOptions, TlsOptions
    from prefixdb.client.sync import Database


class At(enum.Enum):
    """Where a command works.

    NAMESPACE  in the namespace that --namespace, its variable or the profile names; else the token's own
    MEMBERS    as NAMESPACE; a cluster guardian is told how to help there
    HOME       on the cluster: where the caller belongs. --namespace makes no sense; what a variable or the profile say
               about it is meant for the other commands
    NAMED      as HOME, and the command tells the server which namespace it is about
    """

    NAMESPACE = "namespace"
    MEMBERS = "members"
    HOME = "home"
    NAMED = "named"


@contextmanager
def connected(settings: Settings, at: At = At.NAMESPACE) -> Iterator[Database]:
    """Yield a client for these settings and close it; nothing is sent before its first call.

    Raises:
        click.UsageError: --namespace was given to a command that works on the cluster.
        PrefixdbError: what fails inside leaves with the advice that fits these settings.
    """
    from prefixdb.client.sync import connect

    options = client_options(settings, at)
    try:
        with connect(options=options) as database:
            yield database
    except PrefixdbError as failure:
        if at is At.MEMBERS and failure.reason is Reason.NOT_PERMITTED:
            _explain_members(failure, settings)
        else:
            explain(failure, settings, options)
        raise


def _explain_members(failure: PrefixdbError, settings: Settings) -> None:
    """Say whose the members and groups of a namespace are."""
    name = "NAMESPACE" if settings.namespace is None else shlex.quote(namespace_text(settings.namespace))
    failure.add_note(
        "Members and groups are looked after by guardians of their namespace. A cluster guardian who is to help takes "
        f"a token for it: prefixdb token issue NAME --guardian namespace --namespace {name} --out FILE"
    )


def client_options(settings: Settings, at: At = At.NAMESPACE) -> ClientOptions:
    """Return the SDK's options for these settings; no token at all is fine, for the server may allow it."""
    from prefixdb.client.options import ClientOptions

    context = click.get_current_context()
    if at is At.HOME and "namespace" in given_flags(context):
        message = (
            f"'{context.command_path}' is about the cluster, not about one namespace; leave --namespace out. A command "
            "that takes a NAMESPACE takes it as an argument."
        )
        raise click.UsageError(message, context)
    token: str | None = None
    token_file: Path | None = settings.token_file
    if token_file == Path("-"):
        token, token_file = read_secret_line(), None
        if not token:
            raise error(Reason.TOKEN_MISSING, "--token-file - needs the token on the first line of standard input.")
    with usage_errors():
        return ClientOptions(
            endpoint=endpoint_of(settings),
            token=token,
            token_file=token_file,
            credentials_file=settings.credentials_file,
            namespace=settings.namespace if at in {At.NAMESPACE, At.MEMBERS} else _home(settings),
            database=settings.database,
            tls=tls_of(settings),
            insecure=settings.insecure,
            deadline_s=settings.timeout,
        )


def endpoint_of(settings: Settings) -> str:
    """Return the endpoint with its port."""
    from prefixdb.client.options import normal_endpoint

    with usage_errors():
        return normal_endpoint(settings.endpoint)


def tls_of(settings: Settings) -> TlsOptions | None:
    """Return the TLS options; None when no certificate is named."""
    from prefixdb.client.options import TlsOptions

    if not (settings.tls_ca or settings.tls_cert or settings.tls_key):
        return None
    return TlsOptions(ca=settings.tls_ca, cert=settings.tls_cert, key=settings.tls_key)


def _home(settings: Settings) -> int | None:
    """Return 0 for a login of a member of the default namespace, who may have landed in another; else None."""
    return 0 if of_default(kept_login(settings.credentials_file)) else None


def command_line(*words: str) -> str:
    """Return a command of this program as people can copy it: as whom, and where, this command was told on its line."""
    flags = given_flags(click.get_current_context())
    where: list[str] = []
    for name in ("profile", "endpoint", "token_file", "namespace"):
        value = flags.get(name)
        if value is not None and value != "-":
            where += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(["prefixdb", *where, *words])


def place_words(settings: Settings) -> list[str]:
    """Return the flags that lead somebody without these settings to the same server; none where its usual address is.

    What a variable says is left out: the next command of this shell has it too.
    """
    words: list[str] = []
    for name, usual in (("endpoint", DEFAULT_ENDPOINT), ("tls_ca", None)):
        setting = settings.by_name[name]
        if setting.value not in {None, usual} and setting.source.startswith(("flag", "profile")):
            words += [f"--{name.replace('_', '-')}", str(setting.value)]
    return words


def ask(question: str) -> str:
    """Ask a person for a line; make sure before that there is one (``output.can_ask``)."""
    try:
        answer: str = click.prompt(question, err=True, prompt_suffix=": ", type=str)
    except click.Abort:
        # The cursor still stands behind the question.
        click.echo(err=True)
        raise
    return answer


def confirm(settings: Settings, what: str, word: str) -> None:
    """Make sure that something may be destroyed: a person types ``word``, a script said ``--yes``.

    Raises:
        click.UsageError: nobody can be asked, or something else was typed.
    """
    from prefixdb.cli.output import can_ask

    if settings.yes:
        return
    if not can_ask():
        raise click.UsageError(f"{what} Nobody can be asked here; repeat it with --yes if that is what you want.")
    click.echo(what, err=True)
    typed = ask(f"Type {click.style(word, bold=True)} to go on")
    if typed.strip() != word:
        raise click.UsageError(f"That is not {word!r}; nothing was done.")
