"""``prefixdb backup``: the whole store into a repository, and what is in one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from prefixdb.cli.arguments import SIZE
from prefixdb.cli.backup_show import (
    REPOSITORY,
    backup_json,
    bytes_meter,
    naming_errors,
    open_repository,
    taken_at,
)
from prefixdb.cli.base import Group, command
from prefixdb.cli.failures import EXIT_DAMAGED, say_failure
from prefixdb.cli.output import put_json, put_table, say
from prefixdb.cli.session import At, connected
from prefixdb.cli.settings import load_settings
from prefixdb.cli.text import instant, number, size
from prefixdb.errors import PrefixdbError, Reason

if TYPE_CHECKING:
    from prefixdb.client.backup_files import BackupProgress
    from prefixdb.repository.manifest import Manifest

COMMANDS = {
    "create": "prefixdb.cli.backup:create",
    "list": "prefixdb.cli.backup:list_",
    "verify": "prefixdb.cli.backup_upkeep:verify",
    "restore": "prefixdb.cli.backup_restore:restore",
    "prune": "prefixdb.cli.backup_upkeep:prune",
    "namespace": "prefixdb.cli.backup_namespace:namespace_",
    "restore-namespace": "prefixdb.cli.backup_namespace:restore_namespace",
}


@click.group("backup", cls=Group, lazy=COMMANDS)
def backup() -> None:
    """Backups of the whole store, and of one namespace by itself.

    REPO is a directory, or a URL such as s3://BUCKET/PATH ('pip install prefixdb[remote]' and the package of that
    file system). It holds passwords' hashes: keep it as safe as the server's data directory.
    """


@command("create")
@REPOSITORY
@click.option("--rate", type=SIZE, metavar="SIZE", help="Receive no more than this a second, such as 50MiB.")
@click.option(
    "--restored",
    is_flag=True,
    help="This server was restored from a backup of REPO, although it shares no file with one any more.",
)
def create(repository: str, rate: int | None, restored: bool) -> None:
    """Store everything the server has at one instant in REPO, and print the backup's id.

    Nothing stops on the server, and only what REPO does not have yet is sent. REPO is made when it is absent or empty.
    A backup that is interrupted is none; the next one uses what was sent. For cluster guardians and the privilege
    backup.
    """
    settings = load_settings()
    with naming_errors(), connected(settings, At.HOME) as db, bytes_meter(settings, "Backup") as shown:

        def follow(progress: BackupProgress) -> None:
            shown(progress.doing, progress.bytes_done, progress.bytes_total)

        with _advice():
            made = db.guardian.backups.create(repository, rate=rate, restored=restored, on_progress=follow)
    manifest = made.manifest
    if settings.json:
        put_json(backup_json(manifest) | {"files_new": made.files_new, "bytes_new": made.bytes_new})
    else:
        click.echo(manifest.id)
    held = f"{number(manifest.namespaces_live, 'namespace')}, {size(manifest.size)} in {len(manifest.files):,} files"
    new = f"{size(made.bytes_new)} in {number(made.files_new, 'file')} had to be sent"
    say(settings, f"Backup of {instant(taken_at(manifest))}: {held}; {new}.")


@contextmanager
def _advice() -> Iterator[None]:
    """Say what to do about a repository of somebody else's."""
    try:
        yield
    except PrefixdbError as failure:
        if failure.reason is Reason.DIRECTORY_NOT_EMPTY and "store_id" in failure.metadata:
            failure.add_note(
                "Choose another REPO. If this server was restored from a backup of this one, say --restored, once."
            )
        raise


@command("list")
@REPOSITORY
@click.pass_context
def list_(context: click.Context, repository: str) -> None:
    """List the backups of REPO, the oldest first.

    'live' counts the namespaces; 'new' is what a backup has that none before it has. Exit status 3 when a backup's
    manifest is damaged; the others are listed. No server is needed.
    """
    settings = load_settings()
    opened = open_repository(repository)
    rows: list[list[str]] = []
    problems = []
    before: dict[str, int] = {}
    with opened.lock(exclusive=False):
        entries = opened.entries()
    for entry in entries:
        if entry.manifest is None:
            problems.append(entry.problem)
            continue
        added = _new_bytes(entry.manifest, before)
        if settings.json:
            put_json(backup_json(entry.manifest) | {"bytes_new": added})
        else:
            rows.append(_row(entry.manifest, added))
    if not settings.json:
        # The five fit 80 columns whole.
        put_table(settings, ["backup", "taken", "live", "size", "new"], rows, [2, 3, 4], whole=range(5))
    for problem in problems:
        if problem is not None:
            say_failure(problem, as_json=settings.json)
    if problems:
        context.exit(EXIT_DAMAGED)
    say(settings, f"{number(len(entries), 'backup')}, {size(sum(before.values()))} together.")


def _new_bytes(manifest: Manifest, before: dict[str, int]) -> int:
    """Return how many bytes a backup adds to those before it, and add them."""
    added = {file.sha256: file.size for file in manifest.files if file.sha256 not in before}
    before |= added
    return sum(added.values())


def _row(manifest: Manifest, added: int) -> list[Any]:
    return [
        manifest.id,
        instant(taken_at(manifest)),
        f"{manifest.namespaces_live:,}",
        size(manifest.size),
        size(added),
    ]
