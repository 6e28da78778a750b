"""Passwords come from a hidden prompt, a file or standard input, never from the command line. Nothing shows them."""

from __future__ import annotations

from pathlib import Path

import click

from prefixdb.cli.arguments import read_stdin_line
from prefixdb.cli.output import can_ask
from prefixdb.limits import PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN

PASSWORD_FILE_HELP = "File whose first line is the password; '-' is standard input. [asked for]"


def known_password(file: str | None, whose: str) -> str:
    """Return a password that exists already.

    Args:
        file: what ``--password-file`` named; None to ask.
        whose: for the question, such as "alice".

    Raises:
        click.UsageError: nobody can be asked, or the file holds none.
    """
    if file is not None:
        return _from_file(file)
    _check_can_ask(whose)
    return _ask(f"Password of {whose}")


def new_password(file: str | None, whose: str) -> str:
    """Return a password to set, asked for twice; arguments as for ``known_password``.

    Raises:
        click.UsageError: as ``known_password``, or it is too short or too long.
    """
    if file is not None:
        return _good(_from_file(file))
    _check_can_ask(whose)
    while True:
        try:
            password = _good(_ask(f"New password of {whose}"))
        except click.UsageError as failure:
            click.echo(failure.message, err=True)
            continue
        if _ask("The same again") == password:
            return password
        click.echo("These are two different passwords; once more.", err=True)


def _good(password: str) -> str:
    if len(password) < PASSWORD_CHARS_MIN:
        raise click.UsageError(f"A password has at least {PASSWORD_CHARS_MIN} characters.")
    if len(password.encode("utf-8")) > PASSWORD_BYTES_MAX:
        raise click.UsageError(f"A password has at most {PASSWORD_BYTES_MAX:,} bytes.")
    return password


def _ask(question: str) -> str:
    password: str = click.prompt(question, hide_input=True, err=True, prompt_suffix=": ", type=str)
    if any("\udc80" <= char <= "\udcff" for char in password):  # How Python keeps bytes that are not UTF-8.
        raise click.UsageError("What was typed is not UTF-8 text; look at the settings of the terminal.")
    return password


def _check_can_ask(whose: str) -> None:
    if not can_ask():
        raise click.UsageError(
            f"Nobody can be asked for the password of {whose} here: name a file with --password-file, "
            "or give it on standard input with --password-file -."
        )


def _from_file(file: str) -> str:
    """Return the password in a file: its first line, spaces included.

    Raises:
        click.UsageError: the file cannot be read, or does not begin with a line of text.
    """
    where = "standard input" if file == "-" else file
    try:
        raw = read_stdin_line() if file == "-" else Path(file).expanduser().read_bytes()
    except OSError as failure:
        raise click.UsageError(f"The password file {file} cannot be read: {failure.strerror}.") from failure
    line = raw.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise click.UsageError(f"There is no password in {where}: its first line is empty.")
    try:
        return line.decode()
    except UnicodeDecodeError:
        # `from None`: the codec's error quotes the bytes.
        raise click.UsageError(f"There is no password in {where}: it is not UTF-8 text.") from None
