"""What the stores need of an engine: the thin seam to one binding to RocksDB.

:class:`Engine` is what opening, recovery and space need of every engine; :class:`RowEngine` adds the rows and batches
of a binding that has no more to offer (``lsm.LsmStore``). Everything here may raise any exception of the binding;
``faults.translate`` turns those into prefixdb's. Engines hold no policy: ranges were validated, keys are checked and
state is kept by the store above.
"""

from __future__ import annotations

import resource
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from prefixdb.limits import MIB
from prefixdb.store.commit import Batch

MEMTABLES_MAX = 3
"""Memtables that may exist: a third one lets writers go on while two are being flushed."""

KEPT_LOGS_PROPERTY = "rocksdb.min-log-number-to-keep"
"""The number of the oldest log that the engine needs; the rows of those below are in table files."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What differs between the openings of an engine; everything else is fixed in the engine's own module.

    cache_bytes: block cache; index and filter blocks live in it too, so it bounds the memory of reads.
    write_buffer_bytes: memtable size; ``MEMTABLES_MAX`` may exist, and a restart replays about as much log.
    create: whether an absent database may be created; false once anything was ever acknowledged.
    read_only: open without writing a byte into the directory.
    sync: a write is on disk when it is acknowledged; else the operating system has it.
    compaction_bytes_per_second: upper bound of what flushes and compactions write, flushes first; 0 is none.
    """

    cache_bytes: int = 256 * MIB
    write_buffer_bytes: int = 64 * MIB
    create: bool = False
    read_only: bool = False
    sync: bool = True
    compaction_bytes_per_second: int = 0


def max_open_files() -> int:
    """Return how many files an engine may hold open: half of what the process may, so that connections find
    descriptors too. The rest is opened on demand."""
    soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(64, min(soft_limit // 2, 8_192))


class LiveFile(NamedTuple):
    """One table file of the current version. ``first_key`` and ``last_key`` are both inside the file.

    ``entries`` and ``deletions`` are 0 where the engine has not looked yet: when it opens a directory it looks into the
    first twenty files. No file is without entries.
    """

    name: str
    size: int
    level: int
    first_key: bytes
    last_key: bytes
    entries: int
    deletions: int


class EngineIterator(Protocol):
    """A walk over a point-in-time view. Never trust an end without ``status()``: damage looks like one."""

    def seek(self, key: bytes, /) -> None: ...
    def seek_for_prev(self, key: bytes, /) -> None: ...
    def next(self) -> None: ...
    def prev(self) -> None: ...
    def valid(self) -> bool: ...
    def key(self) -> bytes: ...
    def value(self) -> bytes: ...
    def status(self) -> None: ...


class IteratorHandle(NamedTuple):
    """An iterator and the objects whose memory it borrows; both live and die together."""

    iterator: EngineIterator
    borrowed: tuple[object, ...]


class Engine(Protocol):
    """One open database."""

    name: str

    def put_synced(self, key: bytes, value: bytes) -> None:
        """Write one stored value; it is on disk on return, whatever ``EngineOptions.sync`` says."""

    def flush(self) -> None:
        """Write the memtable to a file; waits."""

    def compact(self, begin: bytes | None, end: bytes | None, stop: Callable[[], bool] = lambda: False) -> bool:
        """Rewrite every file that overlaps ``begin..end``, the bottommost level included; waits.

        It may return without having done so (cancelled, disk full) and without an error: look at the files.

        Returns:
            False when ``stop()`` ended it, for an engine that can be asked to stop; others finish.
        """

    def live_files(self) -> list[LiveFile]:
        """Return the table files of the current version."""

    def last_sequence(self) -> int:
        """Return the sequence number of the newest write."""

    def property_int(self, name: str) -> int:
        """Return a numeric engine property; 0 when the engine does not know it."""

    def checkpoint(self, target: Path) -> None:
        """Write an openable copy of this instant into ``target``, which must not exist."""

    def cancel_background(self) -> None:
        """Stop compactions and wait for them; running ``compact`` calls fail."""

    def close(self) -> None:
        """Release everything, without losing a synced write. Every iterator must be gone.

        Raises:
            RuntimeError: "borrowed" in its text: another thread is inside a call; nothing was done.
        """

    def abandon(self) -> None:
        """Make sure that the engine's destructor never runs: in a forked child it would hang or do damage."""


class TableWriter(Protocol):
    """Writes one sorted file outside the database, which an engine can bring in. Not thread-safe."""

    def add(self, rows: Sequence[tuple[bytes, bytes, int, int]], version: int) -> None:
        """Append (key, payload, expires_at_ms, version) in strictly ascending key order; where a row's version is 0 it
        gets ``version``."""

    def add_frame(
        self,
        content: bytes,
        *,
        namespace_id: int,
        span: tuple[bytes, bytes],
        after: bytes,
        version: int,
        now_ms: int,
        versions: tuple[array[int], ...] | None,
    ) -> tuple[int, int, bytes] | None:
        """Append the rows of an archive's frame that live longer than ``now_ms``, all of which were checked before.

        Args:
            content: the frame's.
            namespace_id: in front of its keys.
            span: where all of them have to lie.
            after: they are greater than this row key, when it is not empty.
            version: that of the file; other versions have to be below.
            now_ms: the time.
            versions: as ``VersionRule.columns``.

        Returns:
            How many rows were appended, the bytes of their keys and payloads, and the last row key of the frame; None,
            and nothing was appended, when the writer cannot do this with this frame.

        Raises:
            ValueError: a key or a version is not as it has to be; nothing was appended.
        """

    def finish(self) -> int:
        """Close and sync the file, which has at least one row, and return its size in bytes."""


class RowEngine(Engine, Protocol):
    """An engine with stored values, iterators and batches. ``get`` is an attribute so that the hot path pays for no
    extra call."""

    get: Callable[[bytes], bytes | None]

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return stored values in the order of ``keys``, from one consistent view."""

    def iterate(self, end: bytes) -> IteratorHandle:
        """Open an iterator that yields keys below ``end`` only."""

    def new_batch(self) -> Batch:
        """Return an empty batch; it can be written once."""

    def write(self, batch: Batch) -> None:
        """Apply a batch atomically; with ``EngineOptions.sync`` it is on disk on return. Never waits out a stall."""

    def table_writer(self, path: Path) -> TableWriter:
        """Begin a sorted file."""

    def ingest(self, paths: Sequence[str]) -> bool:
        """Bring finished files in, all or none, durably; they are moved. False, and nothing is done, when a memtable
        with the same keys has to be flushed before."""


class FilterEngine(Engine, Protocol):
    """An engine whose compactions drop published namespaces, and that can look beneath what iterators show."""

    def delete_files(self, spans: Sequence[tuple[bytes, bytes]]) -> int:
        """Remove the table files below level 0 that lie wholly inside a span."""

    def has_any_version(self, begin: bytes, end: bytes) -> bool:
        """Return whether anything with a key of the half-open span is stored, in files or memory: deleted and
        overwritten rows and the tombstones of single rows too."""

    def range_deletes(self, begin: bytes, end: bytes) -> int:
        """Return how many range tombstones are in the table files that overlap the span."""

    def unflushed_range_deletes(self) -> int:
        """Return how many range tombstones wait in memory."""

    def approximate_bytes(self, begin: bytes, end: bytes) -> int:
        """Return about how many bytes of files and memory the span takes, in whole blocks."""

    def namespace_size(self, namespace_id: int) -> tuple[int, int, bool]:
        """Return (rows, raw bytes) in table files by their own bookkeeping, and whether all of them had it."""


E = TypeVar("E", bound=Engine)

EngineOpener = Callable[[Path, EngineOptions], E]
"""Opens the database in a directory."""

RowEngineOpener = EngineOpener[RowEngine]

EngineCheck = Callable[[], None]
"""The self-test of an engine; raises InternalError when the store must not serve on it."""
