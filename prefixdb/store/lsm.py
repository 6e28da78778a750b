"""The store over a plain engine: ``prefixdb.store.base.Store`` for every binding to RocksDB that has the few calls of
``engine.RowEngine``: stored values, iterators and batches. Planning, decoding and checking are done here, in Python.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from prefixdb.clock import Clock
from prefixdb.errors import Reason, error
from prefixdb.keycodec import RowKey, Span
from prefixdb.limits import MIB, RANGE_TOMBSTONES_MAX
from prefixdb.records import split_value
from prefixdb.store.base import Absent, Commit, CommitResult, Condition, Delete, Dropped, Ingest, Put, Row
from prefixdb.store.commit import BatchPlanner, GroupCommitter
from prefixdb.store.core import StoreCore
from prefixdb.store.cursor import LsmCursor, cursor_clock
from prefixdb.store.engine import EngineOptions, RowEngine, RowEngineOpener, TableWriter
from prefixdb.store.faults import STALL_RETRY_MS, Doing, translate, translated
from prefixdb.store.ingest import FileIngest
from prefixdb.store.opening import END_OF_KEYS, OpenDirectory
from prefixdb.store.selftest import check_engine
from prefixdb.store.space import LsmSpace

log = logging.getLogger("prefixdb.store")

_COPY_MEMTABLE_BYTES = 2 * MIB
"""A memtable of this size is flushed in about 20 ms, and an empty one takes some of it too."""

_INGEST_FLUSHES_MAX = 5
"""Flushes for one ingest, each because of keys of its span that were written and deleted meanwhile."""

_COPY_FLUSHES_MAX = 5
"""Flushes before a copy; each leaves what was written meanwhile, which is soon little."""


class LsmStore(StoreCore[RowEngine]):
    """See ``prefixdb.store.base.Store``. Made by a subclass's ``open``; thread-safe."""

    kind = "lsm"
    _read: Callable[[bytes], bytes | None]

    @classmethod
    def open_with(cls, opener: RowEngineOpener, data_dir: Path, *, clock: Clock, options: EngineOptions) -> Self:
        """Open the data directory with engines that ``opener`` makes; see ``RocksdictStore.open``."""
        return cls._open(opener, functools.partial(check_engine, opener), data_dir, clock, options)

    def __init__(
        self, directory: OpenDirectory[RowEngine], engine: RowEngine, clock: Clock, options: EngineOptions
    ) -> None:
        self._tombstones = 0
        super().__init__(directory, engine, clock, options)
        self._space = LsmSpace(
            directory.engine_dir,
            self._slot,
            self._open_raw,
            self.commit,
            lambda: self._tombstones,
            snapshots=self._snapshots,
        )
        self._housekeeper.start()

    # --- reads -----------------------------------------------------------------------------------------------------

    def get(self, key: RowKey) -> Row | None:
        try:
            stored = self._read(key)
        except Exception:  # noqa: BLE001 - read again, which translates what it meets
            stored = self._read_again(key)
        if stored is None:
            return None
        payload, version, expires_at_ms = split_value(stored)
        if expires_at_ms and expires_at_ms <= self._clock.now_ms():
            return None
        return Row(key, payload, version, expires_at_ms)

    def get_many(self, keys: Sequence[RowKey]) -> list[Row | None]:
        if not keys:
            return []
        with self._slot.use() as engine, translated(Doing.READ):
            stored_values = engine.get_many(keys)
        if len(stored_values) != len(keys):
            raise self._poison(error(Reason.INTERNAL, "The storage engine returned another number of rows than asked."))
        now_ms = self._clock.now_ms()
        rows: list[Row | None] = []
        for key, stored in zip(keys, stored_values, strict=True):
            if stored is None:
                rows.append(None)
                continue
            payload, version, expires_at_ms = split_value(stored)
            rows.append(None if 0 < expires_at_ms <= now_ms else Row(key, payload, version, expires_at_ms))
        return rows

    def open_cursor(
        self,
        span: Span,
        *,
        reverse: bool = False,
        keys_only: bool = False,
        raw: bool = False,
        one_instant: bool = False,
    ) -> LsmCursor:
        with self._slot.use() as engine:
            clock = cursor_clock(self._clock, raw=raw, one_instant=one_instant)
            with translated(Doing.READ):
                handle = engine.iterate(span.end)
            cursor = LsmCursor(
                handle,
                span,
                clock,
                check=self._slot.check,
                on_violation=self._on_violation,
                reverse=reverse,
                keys_only=keys_only,
            )
            self._keep_cursor(cursor)
        return cursor

    # --- commits ---------------------------------------------------------------------------------------------------

    def commit(self, commit: Commit) -> CommitResult:
        return self.commit_many((commit,))[0]

    def commit_many(self, commits: Sequence[Commit]) -> list[CommitResult]:
        with self._commit_lock:
            self._admit()
            self._reserve.admit(commits)
            with self._slot.use() as engine:
                return self._commit_locked(engine, commits)

    def _admit(self) -> None:
        """Raise unless writes are possible; the commit lock is held."""
        self._slot.check()
        if self._health.failure is not None and not self._health.try_recover(self._recover):
            raise self._health.refusal()

    def _commit_locked(self, engine: RowEngine, commits: Sequence[Commit]) -> list[CommitResult]:
        sequence = engine.last_sequence()
        batch = engine.new_batch()
        planner = BatchPlanner(self._read_translated, batch, sequence, self._clock.now_ms())
        results = [planner.add(commit) for commit in commits]
        if planner.sequence == sequence:
            return results
        if planner.range_deletes:
            self._admit_range_deletes(planner.range_deletes)
        try:
            engine.write(batch)
        except Exception as failure:
            raise self._write_failed(failure) from failure
        found = engine.last_sequence()
        if found != planner.sequence:
            # The versions just written are wrong, and every condition that compares them would be.
            raise self._poison(error(Reason.INTERNAL, "The storage engine counted a batch differently."))
        self._sequence = found
        self._space.note_writes(commits)
        return results

    def _admit_range_deletes(self, count: int) -> None:
        """Keep range tombstones in the memtable few: 1,000 of them cost every read 220 µs, 20,000 cost 4.2 ms."""
        if self._tombstones and self._tombstones + count > 2 * RANGE_TOMBSTONES_MAX:
            self._wake.set()
            raise error(Reason.WRITE_STALL, retry_after_ms=STALL_RETRY_MS)
        self._tombstones += count
        if self._tombstones >= RANGE_TOMBSTONES_MAX:
            self._wake.set()

    def new_committer(self) -> GroupCommitter:
        return GroupCommitter(self)

    def open_ingest(self, span: Span) -> Ingest | None:
        return FileIngest(self, self._directory.data_dir, span)

    def table_writer(self, path: Path) -> TableWriter:
        """Begin a sorted file for :meth:`ingest`."""
        if self._reserve.low:
            raise self._reserve.refusal()
        with self._slot.use() as engine, translated(Doing.MAINTAIN):
            return engine.table_writer(path)

    def ingest(
        self, paths: Sequence[str], span: Span, guards: Sequence[Condition], marker: Put | None
    ) -> CommitResult | None:
        """Bring finished files in between two commits, all or nothing; None when the span has rows. See ``ingest``."""
        for _ in range(_INGEST_FLUSHES_MAX):
            with self._commit_lock:
                self._admit()
                self._space.note_ingest(span, marker)
                with self._slot.use() as engine:
                    ingested, result = self._ingest_locked(engine, paths, span, guards)
            if ingested:
                return result
            # Rows of the span that were deleted are still in memory.
            self.flush()
        raise error(Reason.WRITE_STALL, retry_after_ms=STALL_RETRY_MS)

    def _ingest_locked(
        self, engine: RowEngine, paths: Sequence[str], span: Span, guards: Sequence[Condition]
    ) -> tuple[bool, CommitResult | None]:
        """Return whether it is settled, and the result."""
        planner = BatchPlanner(self._read_translated, engine.new_batch(), engine.last_sequence(), self._clock.now_ms())
        result = planner.add(Commit(guards=tuple(guards)))
        if not result.applied:
            return True, result
        cursor = self.open_cursor(span, keys_only=True, raw=True)
        try:
            if cursor.fetch(1, 1):
                return True, None
        finally:
            cursor.close()
        try:
            return engine.ingest(paths), result
        except Exception as failure:
            raise translate(failure, Doing.WRITE) from failure

    # --- space -----------------------------------------------------------------------------------------------------

    def dropped(self, namespace_id: int) -> Dropped:
        # Background compactions of this engine know nothing of bans; what goes, goes by ``reclaim``.
        return Dropped(0, 0)

    def sweep_expired(self, after: RowKey, max_rows: int) -> RowKey:
        now_ms = self._clock.now_ms()
        cursor = self.open_cursor(Span(after, END_OF_KEYS), keys_only=True, raw=True)
        try:
            rows: list[Row] = []
            while len(rows) <= max_rows and (page := cursor.fetch(max_rows + 1 - len(rows), 1 << 62)):
                rows += page
        finally:
            cursor.close()
        expired = [row for row in rows[:max_rows] if 0 < row.expires_at_ms <= now_ms]
        if expired:
            # Rewritten since we looked: the row is live again, the guard fails and it stays.
            self.commit_many([Commit((Delete(row.key),), guards=(Absent(row.key),)) for row in expired])
        return rows[max_rows].key if len(rows) > max_rows else RowKey(b"")

    def flush(self) -> None:
        with self._commit_lock:
            flushed = self._tombstones
        with self._slot.use() as engine, translated(Doing.MAINTAIN):
            engine.flush()
        with self._commit_lock:
            self._tombstones -= flushed

    def _copy_to(self, target: Path) -> int:
        """Copy between two commits. The binding holds the interpreter's lock while it does, and begins with a flush, so
        what is in memory is flushed before, while everybody goes on."""
        for _ in range(_COPY_FLUSHES_MAX):
            self.flush()
            with self._slot.use() as engine, translated(Doing.MAINTAIN):
                if engine.property_int("rocksdb.cur-size-active-mem-table") <= _COPY_MEMTABLE_BYTES:
                    break
        with self._commit_lock, self._slot.use() as engine, translated(Doing.MAINTAIN):
            self._directory.checkpoint(engine, target, self._sequence, self._clock.now_ms())
            return self._sequence

    # --- what the core asks for --------------------------------------------------------------------------------------

    def _adopt(self, engine: RowEngine) -> None:
        self._read = engine.get
        # Opening writes what was in memory into files.
        self._tombstones = 0

    def _read_through_slot(self) -> None:
        def wait_and_read(key: bytes) -> bytes | None:
            with self._slot.use() as engine:
                return engine.get(key)

        self._read = wait_and_read

    def _refuse_reads(self, refusal: Callable[[], BaseException]) -> None:
        def refuse(_key: bytes) -> bytes | None:
            raise refusal()

        self._read = refuse

    def _range_deletes_in_memory(self, engine: RowEngine) -> int:
        return self._tombstones

    def _open_raw(self, span: Span) -> LsmCursor:
        return self.open_cursor(span, raw=True)

    def _read_translated(self, key: bytes) -> bytes | None:
        try:
            return self._read(key)
        except Exception:  # noqa: BLE001 - read again, which translates what it meets
            return self._read_again(key)

    def _read_again(self, key: bytes) -> bytes | None:
        """Read once more, now waiting for an exchange of the engine: the first try may have met one."""
        with self._slot.use() as engine, translated(Doing.READ):
            return engine.get(key)
