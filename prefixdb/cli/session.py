"""From settings to a connected client. gRPC is imported here and not before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefixdb.cli.arguments import read_secret_line
from prefixdb.cli.settings import Settings, usage_errors
from prefixdb.errors import Reason, error

if TYPE_CHECKING:
    from prefixdb.client.options import ClientOptions
    from prefixdb.client.sync import Database


@contextmanager
def connected(settings: Settings, *, need_token: bool = True) -> Iterator[Database]:
    """Yield a client for these settings and close it.

    Raises:
        UnauthenticatedError: TOKEN_MISSING when a token is needed and none is named.
    """
    from prefixdb.client.sync import connect

    with connect(options=client_options(settings, need_token=need_token)) as database:
        yield database


def client_options(settings: Settings, *, need_token: bool = True) -> ClientOptions:
    """Return the SDK's options for these settings."""
    # gRPC's own lines on standard error would come on top of our words about the same failure.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from prefixdb.client.options import ClientOptions, TlsOptions, normal_endpoint

    token: str | None = None
    token_file: Path | None = settings.token_file
    if token_file == Path("-"):
        token, token_file = read_secret_line(), None
        if not token:
            raise error(Reason.TOKEN_MISSING, "--token-file - needs the token on the first line of standard input.")
    elif token_file is None and need_token:
        message = "There is no token: neither --token-file nor PREFIXDB_TOKEN_FILE is set, and no profile has one."
        raise error(Reason.TOKEN_MISSING, message)
    with usage_errors():
        tls = None
        if settings.tls_ca or settings.tls_cert or settings.tls_key:
            tls = TlsOptions(ca=settings.tls_ca, cert=settings.tls_cert, key=settings.tls_key)
        return ClientOptions(
            endpoint=normal_endpoint(settings.endpoint),
            token=token,
            token_file=token_file,
            database=settings.database,
            tls=tls,
            insecure=settings.insecure,
            deadline_s=settings.timeout,
        )


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
    try:
        typed = click.prompt(f"Type {click.style(word, bold=True)} to go on", err=True, prompt_suffix=": ", type=str)
    except click.Abort:
        # The cursor still stands behind the question.
        click.echo(err=True)
        raise
    if typed.strip() != word:
        raise click.UsageError(f"That is not {word!r}; nothing was done.")
