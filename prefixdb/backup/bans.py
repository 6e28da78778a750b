"""Which bans there ever were: of a running server, of a list or a repository, of the directory of a stopped server."""

from __future__ import annotations

import tempfile
from pathlib import Path

from prefixdb.catalog import schema
from prefixdb.catalog.entities import Ban, ReclaimReport
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.schema import Tag
from prefixdb.clock import SystemClock
from prefixdb.errors import Reason, error
from prefixdb.limits import MIB
from prefixdb.repository.bans import BANS_BYTES_MAX, BannedIssue, decode_bans, merged
from prefixdb.repository.repository import MARK_NAME, Repository
from prefixdb.store import open_store
from prefixdb.store.base import Store
from prefixdb.store.copying import copy_plain
from prefixdb.store.directory import ENGINE_NAME, STATE_NAME, held_still, read_state

__all__ = ["BannedIssue", "banned_issues", "read_bans"]

_CACHE_BYTES = 8 * MIB


def banned_issues(registry: Registry, store: Store) -> list[BannedIssue]:
    """Return every ban there ever was and that was not taken back, by (number, incarnation). Reads rows; blocks.

    A namespace that was still being made when its maker died was never anybody's, so it is not among them.
    """
    # In this order: a ban that is replaced in between, because its number is issued anew, has its report by then.
    current = [_of_ban(ban) for ban in registry.bans() if not ban.staged]
    rows = schema.rows_of(store, schema.catalog_span(Tag.REPORT))
    return merged([*current, *(_of_report(schema.decode_report(*found)) for found in rows)])


def read_bans(path: Path) -> list[BannedIssue]:
    """Return the bans that a file or a directory tells of, by (number, incarnation). Nothing there is changed.

    Args:
        path: a ``bans.jsonl``, a repository of backups, or the data directory of a server that is stopped.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID, the file is no list of bans, or BAD_FIELD, there is neither.
        FailedPreconditionError: DIRECTORY_LOCKED, a server is running on it: ask that one. FORMAT_TOO_NEW.
        DataLossError: CORRUPTION, the directory cannot be trusted.
    """
    if path.is_dir():
        if (path / MARK_NAME).is_file():
            return _read_repository(path)
        if not (path / ENGINE_NAME).is_dir():
            raise _neither(path, "is no data directory of a server")
        return _read_directory(path)
    if not path.is_file():
        raise _neither(path, "is neither a file nor a data directory")
    with path.open("rb") as file:
        return decode_bans(file.read(BANS_BYTES_MAX + 1), str(path))


def _read_repository(path: Path) -> list[BannedIssue]:
    """Return the bans of the newest backup of each server in a repository: it carries all that were not taken back."""
    repository = Repository.open(path)
    with repository.lock(exclusive=False):
        newest = {manifest.store_id: manifest for manifest in repository.manifests()}
        return merged(ban for manifest in newest.values() for ban in repository.bans(manifest))


def _read_directory(data_dir: Path) -> list[BannedIssue]:
    message = f"A server is running on {data_dir}. Ask it with 'prefixdb ns bans --json', or stop it first."
    running = error(Reason.DIRECTORY_LOCKED, message)
    with held_still(data_dir, running), tempfile.TemporaryDirectory(prefix="prefixdb-bans-") as scratch:
        state = read_state(data_dir)
        if state is None or not state.complete:
            raise _neither(data_dir, f"has no finished {STATE_NAME}, so it is no data directory of a server")
        shadow = _shadow(data_dir, Path(scratch))
        clock = SystemClock()
        store = open_store("auto", shadow, clock=clock, cache_bytes=_CACHE_BYTES)
        try:
            if store.get(schema.catalog_key(Tag.META)) is None:
                raise error(Reason.CORRUPTION, f"{data_dir} has no catalog, so nobody knows its bans.")
            return banned_issues(Registry(store, clock), store)
        finally:
            store.close()


def _shadow(data_dir: Path, shadow: Path) -> Path:
    """Return a directory that opens as ``data_dir`` would: table files are links, for they never change; the rest,
    which an opening goes on writing, is copied."""
    engine, copied = data_dir / ENGINE_NAME, shadow / ENGINE_NAME
    copied.mkdir(mode=0o700)
    copy_plain(data_dir / STATE_NAME, shadow / STATE_NAME)
    for entry in engine.iterdir():
        if entry.name.endswith(".sst"):
            (copied / entry.name).symlink_to(entry.absolute())
        elif entry.name.startswith(("CURRENT", "MANIFEST-", "OPTIONS-")) or entry.name.endswith(".log"):
            copy_plain(entry, copied / entry.name)
    return shadow


def _of_ban(ban: Ban) -> BannedIssue:
    return BannedIssue(
        namespace_id=ban.namespace_id,
        incarnation=ban.incarnation,
        name=ban.name,
        banned_at_ms=ban.banned_at_ms,
        banned_by=ban.by,
        reason=ban.reason,
        reclaim_after_ms=ban.reclaim_after_ms,
        reclaimed=bool(ban.reclaimed_at_ms),
    )


def _of_report(report: ReclaimReport) -> BannedIssue:
    return BannedIssue(
        namespace_id=report.namespace_id,
        incarnation=report.incarnation,
        name=report.name,
        banned_at_ms=report.banned_at_ms,
        banned_by=report.banned_by,
        reason=report.reason,
        reclaim_after_ms=report.reclaim_after_ms,
        reclaimed=True,
    )


def _neither(path: Path, what: str) -> Exception:
    return error(
        Reason.BAD_FIELD,
        f"{path} {what}; --bans takes a bans.jsonl, a repository of backups or a data directory.",
        metadata={"field": "bans"},
    )
