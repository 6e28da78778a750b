"""The whole store at one instant, as files with their sizes and sums, while it goes on being written to.

    bans.jsonl            every ban there ever was, see ``archive.bans``; written into no data directory by a restore
    db/NAME               the engine's files; table files are hard links to live ones, which never change
    store-state.json      what the store knew at that instant

Private keys, the audit and uploads that wait are in no backup. The list of bans is read after the snapshot was taken:
a ban that falls between the two is then in the list, and not lost to whoever restores an older backup.

A table file is read once to learn its sum and remembered by name, size, time and inode for the next backup.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from prefixdb.archive.bans import BANS_NAME, encode_bans
from prefixdb.archive.manifest import FILE_PATH
from prefixdb.backup.bans import banned_issues
from prefixdb.backup.identity import store_id
from prefixdb.catalog.entities import NamespaceState
from prefixdb.catalog.namespaces import Registry
from prefixdb.clock import Clock
from prefixdb.errors import Reason, error
from prefixdb.limits import BACKUP_FILES_MAX, MIB
from prefixdb.store.base import Snapshot, Store
from prefixdb.version import VERSION

_BLOCK_BYTES = 1 * MIB

_NOT_IN_BACKUPS = frozenset({"LOCK", "db/LOCK", "db/IDENTITY", "db/LOG", "db/rocksdict-config.json"})
"""Files a snapshot may have that say nothing about its content."""

_Mark = tuple[str, int, int, int]


class StoppedError(Exception):
    """Reading was stopped from outside."""


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


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file of a backup. sha256: 32 bytes."""

    path: str
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class _Found:
    """A file before it was read: where it is on disk, or what it holds."""

    path: str
    size: int
    place: Path | None
    content: bytes = b""
    mark: _Mark | None = None


class Sums:
    """Sums of table files by what tells them apart. One backup at a time uses it; it is as large as the newest one."""

    def __init__(self) -> None:
        self._known: dict[_Mark, bytes] = {}

    def get(self, mark: _Mark | None) -> bytes | None:
        """Return the sum of a file that was read before."""
        return self._known.get(mark) if mark is not None else None

    def replace(self, known: dict[_Mark, bytes]) -> None:
        """Remember these and no others."""
        self._known = known


class StoreBackup:
    """One backup being taken: ``open``, ``read_sums``, ``chunks``, ``close``, each in a thread, one after the other.

    Args:
        store, registry, clock: of the server.
        data_dir: of the server.
        sums: of the backups before.
    """

    def __init__(self, store: Store, registry: Registry, clock: Clock, data_dir: Path, sums: Sums) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._data_dir = data_dir
        self._sums = sums
        self._snapshot: Snapshot | None = None
        self._found: list[_Found] = []
        self._stopping = threading.Event()

    def open(self) -> Facts:
        """Take the snapshot; writers go on. Blocks for a flush.

        Raises:
            ResourceExhaustedError, UnavailableError: the disk refuses; BATCH_TOO_LARGE, there are too many files.
            PrefixdbError: as ``Store.open_snapshot``.
        """
        name = store_id(self._data_dir)
        self._store.flush()  # So that the registry is held for the moment that what came since then takes.
        taken_at_ms = self._clock.now_ms()
        with self._registry.held():
            self._snapshot = self._store.open_snapshot()
            counts = self._registry.counts()
        bans = encode_bans(banned_issues(self._registry, self._store))
        self._found = sorted([_Found(BANS_NAME, len(bans), None, bans), *_files_of(self._snapshot.path)], key=_path)
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
            store_id=name,
        )

    def read_sums(self, on_progress: Callable[[int, int], None]) -> list[ListedFile]:
        """Return all files, ascending by path, with their sums.

        Args:
            on_progress: told (bytes read, bytes to read) now and then.

        Raises:
            StoppedError: ``stop`` was called.
        """
        listed: list[ListedFile] = []
        known: dict[_Mark, bytes] = {}
        total = sum(found.size for found in self._found if self._sums.get(found.mark) is None)
        done = 0
        for found in self._found:
            digest = self._sums.get(found.mark)
            if digest is None:
                sums = hashlib.sha256()
                for block in self._blocks(found, _BLOCK_BYTES):
                    sums.update(block)
                    done += len(block)
                    on_progress(done, total)
                digest = sums.digest()
            if found.mark is not None:
                known[found.mark] = digest
            listed.append(ListedFile(found.path, found.size, digest))
        self._sums.replace(known)
        return listed

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
            for block in self._blocks(found, chunk_bytes):
                yield position, block

    def stop(self) -> None:
        """Let whoever reads end soon. Thread-safe."""
        self._stopping.set()

    def close(self) -> None:
        """Give the snapshot back; harmless when called again, and when there is none."""
        self._stopping.set()
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.close()

    def _blocks(self, found: _Found, block_bytes: int) -> Iterator[bytes]:
        """Yield exactly the bytes that the file had when it was found."""
        if found.place is None:
            for begin in range(0, found.size, block_bytes):
                yield found.content[begin : begin + block_bytes]
            return
        with found.place.open("rb", buffering=0) as file:
            left = found.size
            while left:
                if self._stopping.is_set():
                    raise StoppedError
                block = _read(file, min(left, block_bytes))
                if not block:
                    raise error(Reason.CORRUPTION, f"{found.path} of the snapshot is shorter than it was.")
                left -= len(block)
                yield block


def _read(file: BinaryIO, size: int) -> bytes:
    """Return so many bytes, less only at the end of the file; one system call when the disk is in the mood."""
    block = file.read(size)
    while block and len(block) < size:
        more = file.read(size - len(block))
        if not more:
            break
        block += more
    return block


def _files_of(path: Path) -> Iterator[_Found]:
    for place in path.rglob("*"):
        name = place.relative_to(path).as_posix()
        if place.is_dir() or name in _NOT_IN_BACKUPS:
            continue
        if not FILE_PATH.fullmatch(name):
            raise error(Reason.INTERNAL, f"The snapshot has a file {name!r} that no backup knows.")
        facts = place.stat()
        mark = (name, facts.st_size, facts.st_mtime_ns, facts.st_ino) if name.endswith(".sst") else None
        yield _Found(name, facts.st_size, place, mark=mark)


def _path(found: _Found) -> str:
    return found.path
