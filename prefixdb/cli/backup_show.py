"""What the backup commands share: repositories as arguments, backups as JSON and as lines, bytes as progress."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from prefixdb.cli.ns_show import iso
from prefixdb.cli.progress import Advance, progress
from prefixdb.cli.settings import Settings
from prefixdb.cli.text import escape, instant, size
from prefixdb.errors import InvalidArgumentError, PrefixdbError, Reason

if TYPE_CHECKING:
    from prefixdb.repository.manifest import Manifest
    from prefixdb.repository.repository import Repository

SILENT_S = 2.0
"""Where there is no bar, what takes no longer than this says nothing on its way."""

BytesDone = Callable[[str, int, int], None]
"""Called with what is going on, and the bytes done of all of them."""

REPOSITORY = click.argument("repository", metavar="REPO")


@contextmanager
def naming_errors() -> Iterator[None]:
    """Turn a repository or a backup that is not there into a usage error; damage stays what it is."""
    try:
        yield
    except InvalidArgumentError as failure:
        if failure.reason is not Reason.BAD_FIELD:
            raise
        raise click.UsageError(failure.message) from failure


@contextmanager
def offline_advice() -> Iterator[None]:
    """Advise on the disk of this machine: what is said of a full disk otherwise is about a server's."""
    try:
        yield
    except PrefixdbError as failure:
        if failure.reason in {Reason.DISK_FULL, Reason.READ_ONLY_STORE}:
            failure.add_note("Make room on that disk, or see what is wrong with it; then run the same command again.")
        raise


def open_repository(where: str) -> Repository:
    """Return the repository that an argument names."""
    from prefixdb.repository.repository import Repository

    with naming_errors():
        return Repository.open(where)


def chosen_backup(repository: Repository, backup_id: str | None) -> Manifest:
    """Return the backup that an argument names; the newest without one."""
    with naming_errors():
        try:
            return repository.find(backup_id)
        except InvalidArgumentError as failure:
            if failure.reason is Reason.BAD_FIELD and backup_id is not None:
                line = shlex.join(["prefixdb", "backup", "list", repository.place.name])
                raise click.UsageError(f"{failure.message} See: {line}") from failure
            raise


@contextmanager
def long_work(settings: Settings, title: str) -> Iterator[Advance]:
    """Yield what shows how far something is: a bar on a terminal, elsewhere lines once it takes long."""
    bar = sys.stderr.isatty()
    begun_at = time.monotonic()
    with progress(settings, title) as advance:

        def tell(share: float, doing: str) -> None:
            if bar or time.monotonic() - begun_at > SILENT_S:
                advance(share, doing)

        yield tell


@contextmanager
def bytes_meter(settings: Settings, title: str) -> Iterator[BytesDone]:
    """Yield what shows bytes on their way; a bar says how many and how fast, lines only what is going on."""
    bar = sys.stderr.isatty()
    begun_at, begun = time.monotonic(), ""
    with long_work(settings, title) as advance:

        def tell(doing: str, done: int, total: int) -> None:
            nonlocal begun_at, begun
            if doing != begun:  # Each kind of work has a pace of its own.
                begun_at, begun = time.monotonic(), doing
            took_s = time.monotonic() - begun_at
            rate = f", {size(int(done / took_s))}/s" if took_s > 1 and done else ""
            advance(done / total if total else 1.0, f"{doing}: {size(done)} of {size(total)}{rate}" if bar else doing)

        yield tell


def taken_at(manifest: Manifest) -> datetime:
    """Return the instant of a backup."""
    return datetime.fromtimestamp(manifest.taken_at_ms / 1000, UTC)


def backup_json(manifest: Manifest) -> dict[str, Any]:
    """Return a backup for programs. Versions are text: a JSON number would lose bits above 2^53."""
    return {
        "id": manifest.id,
        "taken_at": iso(taken_at(manifest)),
        "last_version": str(manifest.last_version),
        "namespaces_live": manifest.namespaces_live,
        "namespaces_banned": manifest.namespaces_banned,
        "files": len(manifest.files),
        "bytes": manifest.size,
        "store_id": manifest.store_id,
        "store": manifest.store,
        "engine": manifest.engine,
        "server_version": manifest.server_version,
    }


def backup_words(manifest: Manifest) -> dict[str, str]:
    """Return a backup for people. What the manifest says as text must not steer a terminal."""
    return {
        "backup": manifest.id,
        "taken": instant(taken_at(manifest)),
        "version": f"{manifest.last_version:,}",
        "namespaces": f"{manifest.namespaces_live:,} live, {manifest.namespaces_banned:,} being reclaimed",
        "size": f"{size(manifest.size)} in {len(manifest.files):,} files",
        "from": escape(f"prefixdb {manifest.server_version}, {manifest.engine}".encode("utf-8", "surrogatepass")),
    }
