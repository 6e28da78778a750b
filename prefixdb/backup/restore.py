"""Restoring a backup of the whole store, offline, and proving that one would restore.

    check everything ─► fill a hidden directory beside the target ─► open it ─► apply bans, end tokens ─► close
      ─► everything on disk ─► rename onto the target

A backup on this machine is read twice: once before anything is written, so that a damaged one leaves no trace, and once
while it is written, for it may change in between. One behind a URL is checked only while it is written, into the hidden
directory: to fetch it twice would cost more than to remove that.

Until the rename, which is one step, the target is untouched: absent, or empty. Whatever goes wrong before leaves it so,
and the hidden directory is removed. One that a killed process has left is removed by the next restore to that target.

The restored directory is another store than the one the backup was taken from: it has no private keys (the first start
makes one), no audit, and a name of its own.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefixdb.backup.filling import Progress, check, disk_failure, fill
from prefixdb.backup.identity import write_identity
from prefixdb.backup.revival import apply_bans, end_tokens
from prefixdb.backup.source import BackupSource
from prefixdb.catalog import schema
from prefixdb.catalog.entities import DEFAULT_NAMESPACE_ID, NamespaceState
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.schema import Tag
from prefixdb.clock import SystemClock
from prefixdb.disk import sync_directory, sync_tree
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import Span, namespace_span
from prefixdb.limits import MIB, NAMESPACE_ID_MAX
from prefixdb.repository.bans import BannedIssue
from prefixdb.repository.manifest import Manifest, invalid
from prefixdb.store import open_store
from prefixdb.store.base import Store
from prefixdb.store.directory import LOCK_NAME

_CACHE_BYTES = 16 * MIB
_COUNTED_AT_ONCE = 10_000
_DAMAGED = frozenset({Reason.CORRUPTION, Reason.INTERNAL})


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore has made, or a proof has seen.

    namespaces_live, namespaces_banned: as they are now, after the bans.
    bans_applied: bans that the backup itself did not know, or not all of.
    rows: of a proof, every row there is, system records too; of a restore 0, for nobody counts them.
    """

    last_version: int
    namespaces_live: int
    namespaces_banned: int
    bans_applied: int
    files: int
    bytes: int
    rows: int = 0


def restore(
    source: BackupSource,
    data_dir: Path,
    bans: Iterable[BannedIssue] = (),
    *,
    new_keys: bool = False,
    on_progress: Progress = lambda _done, _total: None,
    on_check: Progress = lambda _done, _total: None,
) -> Restored:
    """Make a data directory from a backup; a server can be started on it then. Blocks.

    Args:
        source: the backup.
        data_dir: absent, or an empty directory; its parent must be there and on the same disk.
        bans: of newer backups, and whatever else is known. Those in the backup itself are applied anyway.
        new_keys: no token of before is accepted any more, and nobody is logged in. Else those are that were issued
            up to the backup's instant.
        on_progress: told (bytes written, bytes to write).
        on_check: told the same of the reading before, when there is one.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID, with the place; BAD_FIELD (data_dir).
        FailedPreconditionError: DIRECTORY_NOT_EMPTY; FORMAT_TOO_NEW.
        ResourceExhaustedError: DISK_FULL.
        UnavailableError: READ_ONLY_STORE, the disk refuses.
    """
    data_dir = data_dir.absolute()
    _check_target(data_dir)
    try:
        if source.is_local:
            check(source, data_dir.parent, on_check)
        with _hidden_beside(data_dir) as work:
            restored = _make(source, work, bans, new_keys=new_keys, on_progress=on_progress)
            (work / LOCK_NAME).unlink(missing_ok=True)
            write_identity(work, source.manifest.store_id)
            sync_tree(work)
            _publish(work, data_dir)
    except OSError as failure:
        raise disk_failure(data_dir, failure) from failure
    return restored


def verify_open(
    source: BackupSource,
    scratch_dir: Path | None = None,
    *,
    on_progress: Progress = lambda _done, _total: None,
) -> Restored:
    """Prove that a backup would restore: do it in a temporary directory, open it, read every row, and remove it.

    Args:
        source: the backup.
        scratch_dir: where the temporary directory is made, which needs the backup's size; the system's when None.
        on_progress: as of ``restore``.

    Raises:
        PrefixdbError: as ``restore``; CORRUPTION becomes ARCHIVE_INVALID, for the damage was there before.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="prefixdb-verify-", dir=scratch_dir) as scratch:
            return _make(source, Path(scratch), (), new_keys=False, on_progress=on_progress, read_rows=True)
    except OSError as failure:
        raise disk_failure(Path(scratch_dir or tempfile.gettempdir()), failure) from failure


def _make(
    source: BackupSource,
    work: Path,
    bans: Iterable[BannedIssue],
    *,
    new_keys: bool,
    on_progress: Progress,
    read_rows: bool = False,
) -> Restored:
    manifest = source.manifest
    state, own_bans = fill(source, work, on_progress)
    clock = SystemClock()
    store = _open(manifest, work, clock)
    try:
        with _damage_is_the_backups(manifest, "the catalog"):
            registry = _checked_catalog(manifest, store, clock)
        rows = 0
        if read_rows:
            with _damage_is_the_backups(manifest, "its rows"):
                rows = _count_rows(store)
        applied = apply_bans(store, registry, [*own_bans, *bans])
        issued_until_ms = min(manifest.taken_at_ms, state.clock_floor_ms)
        end_tokens(store, registry, issued_until_ms=issued_until_ms, new_keys=new_keys)
        counts = Registry(store, clock).counts()  # Read anew, so that what was changed is looked at as a server would.
        return Restored(
            last_version=store.status().last_version,
            namespaces_live=sum(count for state, count in counts.items() if state.is_live),
            namespaces_banned=counts[NamespaceState.BANNED],
            bans_applied=applied,
            files=len(manifest.files),
            bytes=manifest.size,
            rows=rows,
        )
    finally:
        store.close()


def _open(manifest: Manifest, work: Path, clock: SystemClock) -> Store:
    with _damage_is_the_backups(manifest, "the engine's files"):
        return open_store("auto", work, clock=clock, cache_bytes=_CACHE_BYTES)


@contextmanager
def _damage_is_the_backups(manifest: Manifest, what: str) -> Iterator[None]:
    try:
        yield
    except PrefixdbError as failure:
        if failure.reason not in _DAMAGED:
            raise
        place = f"backup {manifest.id}, {what}"
        raise invalid(place, "cannot be used, although every file is as the manifest says") from failure


def _checked_catalog(manifest: Manifest, store: Store, clock: SystemClock) -> Registry:
    place = f"backup {manifest.id}"
    if store.get(schema.catalog_key(Tag.META)) is None:
        raise invalid(place, "has no catalog of namespaces")
    registry = Registry(store, clock)
    counts = registry.counts()
    live = sum(count for state, count in counts.items() if state.is_live)
    banned = counts[NamespaceState.BANNED]
    if (live, banned) != (manifest.namespaces_live, manifest.namespaces_banned):
        said = f"{manifest.namespaces_live} namespaces and {manifest.namespaces_banned} banned ones"
        raise invalid(place, f"has {live} namespaces and {banned} banned ones, the manifest says {said}")
    return registry


def _count_rows(store: Store) -> int:
    """Read every row, expired ones too, so that a damaged block is met."""
    everything = Span(namespace_span(DEFAULT_NAMESPACE_ID).begin, namespace_span(NAMESPACE_ID_MAX).end)
    cursor = store.open_cursor(everything, raw=True)
    rows = 0
    try:
        while counted := cursor.count(_COUNTED_AT_ONCE):
            rows += counted
    finally:
        cursor.close()
    return rows


# --- the directory -------------------------------------------------------------------------------------------------


def _check_target(data_dir: Path) -> None:
    if data_dir.is_symlink() or (data_dir.exists() and not data_dir.is_dir()):
        raise _bad_target(data_dir, "is no directory; name one that is absent or empty")
    if data_dir.exists() and any(data_dir.iterdir()):
        raise error(Reason.DIRECTORY_NOT_EMPTY, f"{data_dir} is not empty; restore into another directory.")
    if data_dir.exists() and data_dir.is_mount():
        # What is made beside it lies on another disk and cannot become it in one step.
        raise _bad_target(data_dir, "is where a disk is mounted; name a directory below it")
    if not data_dir.parent.is_dir():
        raise _bad_target(data_dir, f"cannot be made: there is no {data_dir.parent}")


@contextmanager
def _hidden_beside(data_dir: Path) -> Iterator[Path]:
    """Yield a new directory beside the target; it is removed at the end unless it has become the target."""
    prefix = f".{data_dir.name}.restoring-"
    _remove_leftovers(data_dir.parent, prefix)
    work = data_dir.parent / (prefix + secrets.token_hex(4))
    work.mkdir(mode=0o700)
    handle = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(handle)


def _remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove what restores to this target have left that were killed; a lock tells that one still runs."""
    for path in parent.iterdir():
        if not path.name.startswith(prefix) or path.is_symlink() or not path.is_dir():
            continue
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)


def _publish(work: Path, data_dir: Path) -> None:
    try:
        work.rename(data_dir)  # Over an empty directory too, and over nothing else.
    except OSError as failure:
        if data_dir.exists() and any(data_dir.iterdir()):
            message = f"{data_dir} is not empty any more; nothing was restored."
            raise error(Reason.DIRECTORY_NOT_EMPTY, message) from failure
        raise
    sync_directory(data_dir.parent)


def _bad_target(data_dir: Path, what: str) -> PrefixdbError:
    return error(Reason.BAD_FIELD, f"{data_dir} {what}.", metadata={"field": "data_dir"})
