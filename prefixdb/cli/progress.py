"""Progress of long work on standard error: a bar on a terminal, a line for every 10 % elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from prefixdb.cli.settings import Settings

Advance = Callable[[float, str], None]
"""Called with the share that is done, 0.0 .. 1.0, and what is going on."""


@contextmanager
def progress(settings: Settings, title: str) -> Iterator[Advance]:
    """Yield a function that shows how far something is; it shows nothing under ``--quiet``."""
    if settings.quiet:
        yield lambda share, doing: None
    elif sys.stderr.isatty():
        with _bar(settings, title) as advance:
            yield advance
    else:
        yield _Steps(title)


class _Steps:
    """A line whenever another tenth is done, and whenever something else is going on."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._said: tuple[int, str] | None = None

    def __call__(self, share: float, doing: str) -> None:
        step = (int(share * 10), doing)
        if step != self._said:
            self._said = step
            click.echo(f"{self._title}: {step[0] * 10} % ({doing})", err=True)


@contextmanager
def _bar(settings: Settings, title: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.text import Text

    console = Console(stderr=True, no_color=settings.no_color, highlight=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[doing]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(Text(title).plain, total=1.0, doing="")
        # At 1.0 the clock would stop, and more may follow: reading is over, then storing begins.
        yield lambda share, doing: bars.update(task, completed=min(share, 0.9999), doing=doing)
