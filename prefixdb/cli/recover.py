"""``prefixdb recover``: what is left of a damaged data directory, in a new one. Needs the server stopped."""

from __future__ import annotations

from pathlib import Path

import click

from prefixdb.cli.backup_show import naming_errors
from prefixdb.cli.base import command
from prefixdb.cli.config import missing_server
from prefixdb.cli.failures import EXIT_DAMAGED
from prefixdb.cli.output import put_json, say
from prefixdb.cli.private import private_files
from prefixdb.cli.settings import load_settings
from prefixdb.cli.text import harmless


@command("recover")
@click.option(
    "--data-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="The damaged directory of a stopped server; nothing in it is changed.",
)
@click.option(
    "--out",
    "target",
    metavar="NEW",
    type=click.Path(path_type=Path),
    required=True,
    help="The new data directory: absent or empty, with room for everything beside it.",
)
@click.option("--accept-loss", is_flag=True, help="Write NEW also when something is lost. Without it the loss is told.")
@click.option(
    "--bans",
    "ban_sources",
    metavar="FROM",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A bans.jsonl, a repository of backups or a data directory whose bans are obeyed. May be repeated.",
)
@click.pass_context
@private_files()
def recover(
    context: click.Context, data_dir: Path, target: Path, accept_loss: bool, ban_sources: tuple[Path, ...]
) -> None:
    """Make a new data directory of what is left of a damaged one.

    For a directory that the server refuses to open, when there is no backup or the backup is too old. Every row that
    can be read is written to NEW; namespaces that were banned or reclaimed stay gone. What is lost is told: files,
    changes, and for each namespace the rows that were found. Nothing is written when something is lost, unless
    --accept-loss is said; look at the report first.
    """
    settings = load_settings(use_profiles=False)
    try:
        from prefixdb.backup.bans import read_bans
        from prefixdb.backup.recover import recover as recover_directory
        from prefixdb.clock import SystemClock
    except ImportError as failure:
        raise missing_server(failure) from failure
    with naming_errors():
        bans = [ban for source in ban_sources for ban in read_bans(source)]
        report = recover_directory(data_dir, target, accept_loss=accept_loss, clock=SystemClock(), bans=bans)
    if settings.json:
        put_json(report.as_json())
    else:
        for sentence in report.sentences():
            click.echo(harmless(sentence))
    if report.written:
        say(settings, f"Written: {target}. Start the server on it: prefixdb serve --data-dir {target}")
        return
    say(settings, "Nothing was written, because something is lost. To go on all the same, add --accept-loss.")
    context.exit(EXIT_DAMAGED)
