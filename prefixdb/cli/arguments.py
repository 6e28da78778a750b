"""Kinds of arguments: durations, namespaces, labels, privileges, and files that hold secrets."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import click

from prefixdb.cli.settings import parse_duration_s, parse_namespace

_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*(B|KiB|MiB|GiB|TiB)?")
_SIZE_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}


class DurationType(click.ParamType):  # type: ignore[type-arg]  # generic only in new versions of click
    """A length of time with a unit, as seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, int | float):
            return float(value)
        try:
            return parse_duration_s(str(value))
        except ValueError as failure:
            self.fail(str(failure), param, ctx)


class NamespaceType(click.ParamType):  # type: ignore[type-arg]  # generic only in new versions of click
    """A namespace: its name, or ``id:NUMBER``. Digits alone are a name, for a name may be all digits."""

    name = "namespace"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the id as a number or the name as text."""
        if isinstance(value, int):
            return value
        try:
            return parse_namespace(str(value))
        except ValueError as failure:
            self.fail(str(failure), param, ctx)


class LabelType(click.ParamType):  # type: ignore[type-arg]  # generic only in new versions of click
    """A label, ``NAME=VALUE``."""

    name = "label"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return name and value."""
        if isinstance(value, tuple):
            return value
        name, separator, content = str(value).partition("=")
        if not separator or not name:
            self.fail(f"{value!r} is no label; write NAME=VALUE.", param, ctx)
        return name, content


class SizeType(click.ParamType):  # type: ignore[type-arg]  # generic only in new versions of click
    """A number of bytes with a unit: ``512KiB``, ``50MiB``, ``1.5GiB``; a bare number is bytes."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes."""
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no size; write for example 512KiB, 50MiB or 1GiB.", param, ctx)
        return int(float(found[1]) * _SIZE_BYTES[found[2] or "B"])


DURATION = DurationType()
SIZE = SizeType()
NAMESPACE = NamespaceType()
LABEL = LabelType()
PRIVILEGE = click.Choice(["namespaces.use", "namespaces.edit", "backup", "audit"])


def write_secret(path: Path, text: str) -> None:
    """Write a secret to a new file of mode 0600.

    Raises:
        click.UsageError: the file exists already, or cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except FileExistsError as failure:
        raise click.UsageError(f"{path} exists; a secret never overwrites a file. Choose another name.") from failure
    except OSError as failure:
        raise click.UsageError(f"{path} cannot be written: {failure.strerror}.") from failure


def check_new_file(path: Path) -> None:
    """Refuse a file for a secret before the secret is made: a token that cannot be stored would be lost.

    Raises:
        click.UsageError: it exists, or its directory does not.
    """
    if path.exists() or path.is_symlink():
        raise click.UsageError(f"{path} exists; a secret never overwrites a file. Choose another name.")
    if not os.access(path.absolute().parent, os.W_OK):
        raise click.UsageError(f"{path} cannot be written: its directory is missing or not yours.")


def read_stdin_bytes() -> bytes:
    """Return all of standard input."""
    return sys.stdin.buffer.read()


def read_stdin_line() -> bytes:
    """Return the next line of standard input as it is; the rest stays for whoever reads next."""
    return sys.stdin.buffer.readline()


def read_secret_line() -> str:
    """Return the next line of standard input as a token: text without the space around it."""
    return read_stdin_line().decode("utf-8", "replace").strip()
