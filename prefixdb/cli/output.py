"""Where things go: data to standard output, words to standard error, tables only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import click

from prefixdb.cli.settings import Settings
from prefixdb.cli.text import harmless, json_line


def stdout_is_terminal() -> bool:
    """True when a person reads standard output."""
    return sys.stdout.isatty()


def can_ask() -> bool:
    """True when a person can be asked: both ends of the conversation are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def say(settings: Settings, words: str) -> None:
    """Say something to a person, on standard error; ``--quiet`` leaves it out."""
    if not settings.quiet:
        click.echo(harmless(words), err=True)


def put_json(content: Mapping[str, Any]) -> None:
    """Write one object on one line."""
    click.echo(json_line(content))


def put_facts(settings: Settings, facts: Mapping[str, Any], words: Mapping[str, str | Sequence[str]]) -> None:
    """Write one thing: as JSON from ``facts``, or as "name  value" lines from ``words``, a line for each value."""
    if settings.json:
        put_json(facts)
        return
    width = max(len(name) for name in words)
    for name, values in words.items():
        for value in [values] if isinstance(values, str) else values:
            click.echo(f"{name:<{width}}  {harmless(value)}" if stdout_is_terminal() else f"{name}\t{value}")


def put_table(
    settings: Settings,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[int],
    *,
    whole: Sequence[int] = (),
    sparse: Sequence[int] = (),
) -> None:
    """Write rows: a table on a terminal, tab-separated lines without a head elsewhere.

    Args:
        settings: whether colours are wanted.
        columns: heads.
        rows: cells as text.
        numbers: indexes of the columns that are aligned to the right.
        whole: indexes of the columns that are never folded onto several lines.
        sparse: indexes of columns that a terminal does not show when every cell is "-".
    """
    if not stdout_is_terminal():
        for row in rows:
            click.echo("\t".join(row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    empty = {index for index in sparse if all(row[index] == "-" for row in rows)}
    for index, column in enumerate(columns):
        if index in empty:
            continue
        side: Literal["right", "left"] = "right" if index in numbers else "left"
        table.add_column(column, justify=side, overflow="fold", no_wrap=index in whole)
    for row in rows:
        # Text, not str: rich would take square brackets in a name for its own markup.
        table.add_row(*(Text(harmless(cell)) for index, cell in enumerate(row) if index not in empty))
    Console(no_color=settings.no_color, highlight=False).print(table)


def put_bytes(data: bytes) -> None:
    """Write all of these bytes to standard output.

    Under PYTHONUNBUFFERED the stream is the raw file, whose ``write`` may take a part and say so only by its result.
    """
    stream = sys.stdout.buffer
    left = memoryview(data)
    while left:
        left = left[stream.write(left) :]
    stream.flush()


class Lines:
    """Many lines to standard output, in chunks; ``click.echo`` for each would flush for each."""

    def __init__(self) -> None:
        self._gathered: list[str] = []
        self._at_once = 1 if stdout_is_terminal() else 500

    def put(self, line: str) -> None:
        """Write one line, soon."""
        self._gathered.append(line)
        if len(self._gathered) >= self._at_once:
            self.flush()

    def flush(self) -> None:
        """Write what is gathered."""
        if self._gathered:
            put_bytes(("\n".join(self._gathered) + "\n").encode("utf-8", "surrogateescape"))
            self._gathered.clear()
