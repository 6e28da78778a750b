"""RocksDB through rocksdict: the store that needs nothing but wheels. Only this module and ``plain`` import rocksdict.

rocksdict 0.3.29 (RocksDB 9.8.4) has traps; what is done about each stands where it is done. Those handled here:
raw mode and ``column_families`` always (a default open reads and rewrites ``rocksdict-config.json`` and guesses),
table format 5 (RocksDB 7.8 opens the same files), the recovery mode that does not lose a damaged tail silently, bounds
that stay alive as long as their iterator, no lower bound (its setter sets the upper one), no snapshots (their
iterators ignore them), and writes that are refused instead of freezing the process.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import rocksdict

from prefixdb.clock import Clock
from prefixdb.limits import KIB, MIB
from prefixdb.records import encode_value
from prefixdb.store.commit import Batch
from prefixdb.store.core import is_synced
from prefixdb.store.directory import leak
from prefixdb.store.engine import MEMTABLES_MAX, EngineOptions, IteratorHandle, LiveFile, TableWriter, max_open_files
from prefixdb.store.lsm import LsmStore

log = logging.getLogger("prefixdb.store")

ENGINE_NAME = "rocksdict 0.3.29 (RocksDB 9.8.4)"
TABLE_FORMAT = 5

_SYNC_BYTES = 4 * MIB
"""Keys and values after which a file that is being written is synced."""


class RocksdictTableWriter:
    """``prefixdb.store.engine.TableWriter`` on rocksdict, which holds the interpreter's lock in every call.

    So the file is synced by ourselves, without that lock, while it grows, and little is left for the writer's own sync
    at the end. On a slow disk that would hold everybody up for as long as 64 MiB take.
    """

    def __init__(self, path: Path, options: Any) -> None:
        self._path = path
        self._writer = rocksdict.SstFileWriter(options)
        self._writer.open(str(path))
        self._unsynced = 0

    def add(self, rows: Sequence[tuple[bytes, bytes, int, int]], version: int) -> None:
        writer = self._writer
        for key, payload, expires_at_ms, own in rows:
            stored = encode_value(payload, own or version, expires_at_ms)
            writer[key] = stored
            self._unsynced += len(key) + len(stored)
        if self._unsynced >= _SYNC_BYTES:
            self._sync()

    def add_frame(self, content: bytes, **_: object) -> None:
        """Frames are taken apart in Python, which ``add`` is for."""

    def finish(self) -> int:
        self._sync()
        self._writer.finish()
        return self._path.stat().st_size

    def _sync(self) -> None:
        self._unsynced = 0
        handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class RocksdictEngine:
    """``prefixdb.store.engine.Engine`` on rocksdict.

    ``get``, ``write``, iteration, ``checkpoint`` and ``ingest`` (0.6 ms a file) hold the interpreter's lock;
    ``get_many``, ``flush``, ``compact`` and ``close`` release it.
    """

    name = ENGINE_NAME

    def __init__(self, path: Path, options: EngineOptions) -> None:
        # Kept alive as long as the database: the binding does not hold on to what it was configured with.
        self._options = database_options(options)
        access = rocksdict.AccessType.read_only(False) if options.read_only else rocksdict.AccessType.read_write()
        self._db = rocksdict.Rdict(str(path), self._options, {"default": self._options}, access)
        self.get: Callable[[bytes], bytes | None] = self._db.get
        self._writes = _write_options(options.sync)
        self._compaction = rocksdict.CompactOptions()
        # Without "force" the bottommost level is left alone and dropped rows stay on disk.
        self._compaction.set_bottommost_level_compaction(rocksdict.BottommostLevelCompaction.force())
        self._ingestion = rocksdict.IngestExternalFileOptions()
        self._ingestion.set_move_files(True)
        # A flush in the middle of it would hold the interpreter's lock, and wait out a write stall with it.
        self._ingestion.set_allow_blocking_flush(False)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        values: Any = self._db.get(list(keys))
        return cast(list[bytes | None], values)

    def iterate(self, end: bytes) -> IteratorHandle:
        bounds = rocksdict.ReadOptions()
        # The bound is a bare pointer into ``end``: both must outlive the iterator, so the handle carries them.
        bounds.set_iterate_upper_bound(end)
        # Files a closed cursor was the last to need are deleted by a background thread, not while we hold the
        # interpreter's lock.
        bounds.set_background_purge_on_iterator_cleanup(True)
        return IteratorHandle(self._db.iter(bounds), (bounds, end))

    def new_batch(self) -> Batch:
        batch: Batch = rocksdict.WriteBatch(raw_mode=True)
        return batch

    def write(self, batch: Batch) -> None:
        self._db.write(cast(Any, batch), self._writes)

    def put_synced(self, key: bytes, value: bytes) -> None:
        self._db.put(key, value, write_opt=_write_options(sync=True))

    def table_writer(self, path: Path) -> TableWriter:
        return RocksdictTableWriter(path, self._options)

    def ingest(self, paths: Sequence[str]) -> bool:
        try:
            self._db.ingest_external_file(list(paths), self._ingestion)
        except Exception as refusal:
            if "requires flush" in str(refusal):
                return False
            raise
        return True

    def flush(self) -> None:
        self._db.flush(True)

    def compact(self, begin: bytes | None, end: bytes | None, stop: Callable[[], bool] = lambda: False) -> bool:
        self._db.compact_range(begin, end, self._compaction)
        return True

    def live_files(self) -> list[LiveFile]:
        return [
            LiveFile(
                name=file["name"].lstrip("/"),
                size=file["size"],
                level=file["level"],
                first_key=file["start_key"] or b"",
                last_key=file["end_key"] or b"",
                entries=file["num_entries"],
                deletions=file["num_deletions"],
            )
            for file in self._db.live_files()
        ]

    def last_sequence(self) -> int:
        return int(self._db.latest_sequence_number())

    def property_int(self, name: str) -> int:
        return self._db.property_int_value(name) or 0

    def checkpoint(self, target: Path) -> None:
        rocksdict.Checkpoint(self._db).create_checkpoint(str(target))
        # The binding's own note of how it was opened: nobody here reads it, and it is no part of a database.
        (target / "rocksdict-config.json").unlink(missing_ok=True)

    def cancel_background(self) -> None:
        self._db.cancel_all_background(True)

    def close(self) -> None:
        try:
            self._db.close()
        except rocksdict.DbClosedError:
            pass  # A second close, or the first one finished although it complained.
        except RuntimeError:
            raise
        except Exception as complaint:
            # It closes in any case and complains that its last flush met cancelled background work or a broken disk;
            # what that flush would have written is in the log.
            if not self._is_closed():
                raise
            log.debug("the last flush of a closing engine was skipped: %s", complaint)

    def _is_closed(self) -> bool:
        try:
            self._db.latest_sequence_number()
        except rocksdict.DbClosedError:
            return True
        return False

    def abandon(self) -> None:
        leak(self._db)


class RocksdictStore(LsmStore):
    """The store on rocksdict; see ``prefixdb.store.base`` for what it promises and ``lsm`` for how."""

    kind = "rocksdict"

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        clock: Clock,
        durability: str = "fsync",
        cache_bytes: int = 256 * MIB,
        write_buffer_bytes: int = 64 * MIB,
        compaction_bytes_per_second: int = 0,
    ) -> RocksdictStore:
        """Open the data directory, or create it; its lock is taken before anything in it is touched.

        Args:
            data_dir: the server's data directory; the database lives in ``db/`` below it.
            clock: the source of time for expiry; its floor is raised to what the directory has seen.
            durability: ``fsync`` (a commit is on disk when it is acknowledged) or ``os`` (the operating system has it).
            cache_bytes: size of the block cache.
            write_buffer_bytes: size of one memtable.
            compaction_bytes_per_second: most bytes flushes and compactions write, flushes first; 0 is no limit.

        Raises:
            FailedPreconditionError: DIRECTORY_LOCKED, FORMAT_TOO_NEW.
            DataLossError: CORRUPTION when files are damaged, missing or rolled back; nothing was changed.
            InternalError: the self-test found that this rocksdict does not behave as the store relies on.
        """
        options = EngineOptions(
            cache_bytes=cache_bytes,
            write_buffer_bytes=write_buffer_bytes,
            sync=is_synced(durability),
            compaction_bytes_per_second=compaction_bytes_per_second,
        )
        store = cls.open_with(RocksdictEngine, data_dir, clock=clock, options=options)
        _lower_background_priority()
        return store


def _write_options(sync: bool) -> Any:
    options = rocksdict.WriteOptions()
    options.sync = sync
    # A stalled write would hold the interpreter's lock, and with it the whole process, for seconds.
    options.no_slowdown = True
    return options


def database_options(wanted: EngineOptions) -> Any:
    """Return the binding's options for a store's database."""
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(wanted.create)
    options.set_paranoid_checks(True)
    # The default recovery drops everything from the first damaged record on, silently. This one forgives only the
    # record that was being written when the machine stopped.
    options.set_wal_recovery_mode(rocksdict.DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_block_based_table_factory(_table_options(wanted.cache_bytes))

    # lz4 costs little where data is rewritten often; zstd pays where nine tenths of it rest.
    options.set_compression_type(rocksdict.DBCompressionType.lz4())
    options.set_bottommost_compression_type(rocksdict.DBCompressionType.zstd())
    # Keeps space amplification near 1.1 whatever the size of the database: a dropped namespace is worth giving back.
    options.set_level_compaction_dynamic_level_bytes(True)

    options.set_write_buffer_size(wanted.write_buffer_bytes)
    # A third memtable lets writers go on while two are being flushed.
    options.set_max_write_buffer_number(MEMTABLES_MAX)
    # Bounds what a restart has to replay, also when a trickle of writes never fills a memtable.
    options.set_max_total_wal_size(4 * wanted.write_buffer_bytes)
    # Two cores are the smallest machine this runs on: one flush and one compaction at a time keep up there.
    options.set_max_background_jobs(2)
    # Spreads write-back over time, so that the fsync of a commit does not wait behind a whole table file.
    options.set_bytes_per_sync(1 * MIB)
    options.set_compaction_readahead_size(2 * MIB)

    options.set_max_open_files(max_open_files())
    # The MANIFEST is read at every start; a small one keeps that fast.
    options.set_max_manifest_file_size(16 * MIB)
    options.set_max_log_file_size(4 * MIB)
    options.set_keep_log_file_num(4)
    if wanted.compaction_bytes_per_second:
        options.set_ratelimiter(wanted.compaction_bytes_per_second, 100_000, 10)
    # The info log of a rehearsal or a small database needs no statistics every ten minutes.
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def _table_options(cache_bytes: int) -> Any:
    table = rocksdict.BlockBasedOptions()
    # RocksDB 7.8 and 9.8 read each other's files with this one; either store may open the directory.
    table.set_format_version(TABLE_FORMAT)
    # Ten bits a key: one absent key in a hundred costs a block read.
    table.set_bloom_filter(10, False)
    table.set_block_cache(rocksdict.Cache(cache_bytes))
    # Index and filter blocks count against the cache, so its size is the whole memory of reads; those of level 0, which
    # every read asks, stay.
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_block_size(8 * KIB)
    return table


def _lower_background_priority() -> None:
    """Let compaction threads of this process yield processor and disk to everything else; flushes keep theirs.

    A compaction that falls behind ends in write stalls, which are answered at once, so it is the writers who wait.
    """
    environment = rocksdict.Env()
    environment.lower_thread_pool_cpu_priority()
    environment.lower_thread_pool_io_priority()
