"""The whole store at one instant, as files with their sizes and sums, while it goes on being written to.

    bans.jsonl            every ban there ever was, see ``archive.bans``; written into no data directory by a restore
    db/NAME               the engine's files; table files are hard links to live ones, which never change
    store-state.json      what the store knew at that instant

Private keys, the audit and uploads that wait are in no backup. The list of bans is read after the snapshot was taken:
a ban that falls between the two is then in the list, and not lost to whoever restores an older backup.

Table files that are there already are read before the snapshot is taken: what it pins on the disk, and the time for
which it does, are then as small as they can be.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefixdb.backup.bans import banned_issues
from prefixdb.backup.identity import identity
from prefixdb.backup.sums import Found, OnProgress, SumReader, Sums
from prefixdb.catalog.entities import NamespaceState
from prefixdb.catalog.namespaces import Registry
from prefixdb.clock import Clock, SystemClock
from prefixdb.errors import Reason, error
from prefixdb.limits import BACKUP_FILES_MAX
from prefixdb.repository.bans import BANS_NAME, encode_bans
from prefixdb.repository.manifest import FILE_PATH
from prefixdb.store.base import Snapshot, Store
from prefixdb.store.directory import ENGINE_NAME
from prefixdb.version import VERSION

_SETTLED_MS = 2_000
"""A file that was written more recently may still be written to, without its time telling: some file systems count in
steps of two seconds."""

_NOT_IN_BACKUPS = frozenset({"LOCK", "db/LOCK", "db/IDENTITY", "db/LOG", "db/rocksdict-config.json"})
"""Files a snapshot may have that say nothing about its content."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a backup is of.

    taken_at_ms: a moment before the snapshot: what was issued up to then is in it, or was never given out.
    namespaces_live, namespaces_banned: in the snapshot, exactly.
    """

    taken_at_ms: int
    server_version: str
    store: str
    engine: str
    last_version: int
    namespaces_live: int
    namespaces_banned: int
    store_id: str
    restored_from: str


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file of a backup. sha256: 32 bytes."""

    path: str
    size: int
    sha256: bytes


class StoreBackup:
    """One backup being taken: ``read_ahead``, ``open``, ``read_sums``, ``chunks``, ``close``, each in a thread, in this
    order.

    Args:
        store, registry, clock: of the server.
        data_dir: of the server.
        sums: of the backups before. One backup at a time uses them.
    """

    def __init__(self, store: Store, registry: Registry, clock: Clock, data_dir: Path, sums: Sums) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._data_dir = data_dir
        self._sums = sums
        self._reader = SumReader(sums)
        self._snapshot: Snapshot | None = None
        self._found: list[Found] = []

    def read_ahead(self, on_progress: OnProgress) -> None:
        """Read the table files of this moment, of which the snapshot will have most.

        Raises:
            StoppedError: ``stop`` was called.
        """
        self._reader.read_ahead(list(_tables_of(self._data_dir)), on_progress)

    def open(self) -> Facts:
        """Take the snapshot; writers go on. Blocks for a flush.

        Raises:
            ResourceExhaustedError, UnavailableError: the disk refuses; BATCH_TOO_LARGE, there are too many files.
            PrefixdbError: as ``Store.open_snapshot``.
        """
        name = identity(self._data_dir)
        self._store.flush()  # So that the registry is held for the moment that what came since then takes.
        taken_at_ms = self._clock.now_ms()
        with self._registry.held():
            self._snapshot = self._store.open_snapshot()
            counts = self._registry.counts()
        bans = encode_bans(banned_issues(self._registry, self._store))
        self._found = sorted([Found(BANS_NAME, len(bans), None, bans), *_files_of(self._snapshot.path)], key=_path)
        if len(self._found) > BACKUP_FILES_MAX:
            raise error(Reason.BATCH_TOO_LARGE, f"The store has more than {BACKUP_FILES_MAX} files; compact it.")
        status = self._store.status()
        return Facts(
            taken_at_ms=taken_at_ms,
            server_version=VERSION,
            store=status.name,
            engine=status.engine,
            last_version=self._snapshot.last_version,
            namespaces_live=sum(count for state, count in counts.items() if state.is_live),
            namespaces_banned=counts[NamespaceState.BANNED],
            store_id=name.store_id,
            restored_from=name.restored_from,
        )

    def read_sums(self, on_progress: OnProgress) -> list[ListedFile]:
        """Return all files, ascending by path, with their sums.

        Args:
            on_progress: told (bytes read, bytes to read) now and then.

        Raises:
            StoppedError: ``stop`` was called.
            DataLossError: CORRUPTION; a file is damaged. With the compiled part that is a block that does not have its
                checksum; without it nobody looks.
        """
        digests = self._reader.read(self._found, on_progress)
        self._sums.keep([found.mark for found in self._found if found.mark is not None])
        return [ListedFile(found.path, found.size, digest) for found, digest in zip(self._found, digests, strict=True)]

    def chunks(self, wanted: Sequence[int], chunk_bytes: int) -> Generator[tuple[int, bytes], None, None]:
        """Yield (position, piece) of the files at these positions of the list; a file of no bytes has one piece.

        Raises:
            StoppedError: ``stop`` was called.
            DataLossError: CORRUPTION, a file is shorter than it was.
        """
        for position in wanted:
            found = self._found[position]
            if not found.size:
                yield position, b""
            for block in self._reader.blocks(found, chunk_bytes):
                yield position, block

    def stop(self) -> None:
        """Let whoever reads end soon. Thread-safe."""
        self._reader.stop()

    def close(self) -> None:
        """Give the snapshot back; harmless when called again, and when there is none."""
        self._reader.stop()
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.close()


def _files_of(path: Path) -> Iterator[Found]:
    for place in path.rglob("*"):
        name = place.relative_to(path).as_posix()
        if place.is_dir() or name in _NOT_IN_BACKUPS:
            continue
        if not FILE_PATH.fullmatch(name):
            raise error(Reason.INTERNAL, f"The snapshot has a file {name!r} that no backup knows.")
        yield Found.at(name, place, place.stat())


def _tables_of(data_dir: Path) -> Iterator[Found]:
    """Yield the table files that lie there and are not new; any of them may go away at any moment."""
    newest_ns = (
        SystemClock().now_ms() - _SETTLED_MS
    ) * 1_000_000  # Not the server's: the file system has the machine's.
    with os.scandir(data_dir / ENGINE_NAME) as entries:
        for entry in entries:
            path = f"{ENGINE_NAME}/{entry.name}"
            if not path.endswith(".sst") or not FILE_PATH.fullmatch(path):
                continue
            with contextlib.suppress(FileNotFoundError):
                facts = entry.stat(follow_symlinks=False)
                if facts.st_mtime_ns < newest_ns:
                    yield Found.at(path, Path(entry.path), facts)


def _path(found: Found) -> str:
    return found.path
