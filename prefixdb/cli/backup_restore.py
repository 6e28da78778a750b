"""``backup restore``: a new data directory from a backup, on the machine that will serve it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefixdb.cli.backup_show import (
    REPOSITORY,
    backup_json,
    backup_words,
    bytes_meter,
    chosen_backup,
    naming_errors,
    offline_advice,
    open_repository,
)
from prefixdb.cli.base import command
from prefixdb.cli.config import missing_server
from prefixdb.cli.output import put_facts, say
from prefixdb.cli.private import private_files
from prefixdb.cli.settings import Settings, load_settings
from prefixdb.cli.text import number
from prefixdb.errors import PrefixdbError, Reason

if TYPE_CHECKING:
    from prefixdb.backup.restore import Restored
    from prefixdb.repository.manifest import Manifest


@command("restore")
@REPOSITORY
@click.argument("backup_id", metavar="[ID]", required=False)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="The data directory to make: absent or empty.",
)
@click.option(
    "--bans",
    "ban_lists",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FROM",
    help="Also obey these bans: what 'ns bans --json' wrote, a bans.jsonl, another repository, or the data directory "
    "of a stopped server. May be repeated.",
)
@click.option("--new-keys", is_flag=True, help="Make every token and login of the old server worthless.")
@private_files()
def restore(
    repository: str, backup_id: str | None, data_dir: Path, ban_lists: tuple[Path, ...], new_keys: bool
) -> None:
    """Make a data directory from backup ID of REPO; without ID, from the newest.

    Everything is checked before DIR appears, and what is interrupted leaves DIR as it was. A namespace that was banned
    comes back from no backup: the bans of ID, of every newer backup in REPO and of each FROM are obeyed. Needs the
    server's packages; no server has to run.
    """
    settings = load_settings(use_profiles=False)
    try:
        from prefixdb.backup.bans import read_bans
        from prefixdb.backup.restore import restore as restore_backup
    except ImportError as failure:
        raise missing_server(failure) from failure
    from prefixdb.repository.bans import merged
    from prefixdb.repository.repository import StoredBackup

    opened = open_repository(repository)
    with opened.lock(exclusive=False), offline_advice(), naming_errors(), _advice():
        manifest = chosen_backup(opened, backup_id)
        bans = opened.newer_bans(manifest)
        for path in ban_lists:
            bans += read_bans(path)
        with bytes_meter(settings, "Restoring") as shown:
            done = restore_backup(
                StoredBackup(opened, manifest),
                data_dir,
                merged(bans),
                new_keys=new_keys,
                on_progress=lambda done, total: shown("copying", done, total),
                on_check=lambda done, total: shown("checking", done, total),
            )
    _put_restored(settings, manifest, done, data_dir)


@contextmanager
def _advice() -> Iterator[None]:
    """Say what else can be restored when this cannot."""
    from prefixdb.repository.repository import BACKUPS, OBJECTS

    try:
        yield
    except PrefixdbError as failure:
        place = failure.metadata.get("place", "")
        if failure.reason is Reason.ARCHIVE_INVALID and BACKUPS + "/" in place:
            failure.add_note(
                "Nothing was restored: this backup's bans would be missed. Put a copy of the manifest in its place, or "
                "move it out of REPO to go on without them."
            )
        elif failure.reason is Reason.ARCHIVE_INVALID and OBJECTS + "/" in place:
            failure.add_note(
                "Nothing was restored. Put a copy of the file in its place, or restore another backup: "
                "'prefixdb backup verify --all' tells which ones need it."
            )
        raise


def _put_restored(settings: Settings, manifest: Manifest, done: Restored, data_dir: Path) -> None:
    facts = backup_json(manifest) | {
        "data_dir": str(data_dir),
        "namespaces_live": done.namespaces_live,
        "namespaces_banned": done.namespaces_banned,
        "bans_applied": done.bans_applied,
        "last_version": str(done.last_version),
    }
    namespaces = f"{done.namespaces_live:,} live, {done.namespaces_banned:,} being reclaimed"
    put_facts(settings, facts, backup_words(manifest) | {"namespaces": namespaces, "restored to": str(data_dir)})
    if done.bans_applied:
        which = number(done.bans_applied, "namespace")
        say(settings, f"{which} of the backup had been banned since, and will be reclaimed when the server starts.")
    say(settings, f"Start a server on it: {shlex.join(['prefixdb', 'serve', '--data-dir', str(data_dir)])}")
