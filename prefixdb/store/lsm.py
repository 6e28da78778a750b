"""The store over an LSM engine: ``prefixdb.store.base.Store`` for every binding to RocksDB that has the few calls of
``engine.Engine``. Space (sizes, reclaim, proofs) is in ``space``, opening in ``opening``, write errors in ``health``.

Lock order: commit lock, then the engine slot, then cursors. Reads of single rows take no lock at all.
"""

from __future__ import annotations

import functools
import logging
import threading
import weakref
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import ClassVar, Self

from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import RowKey, Span, namespace_span
from prefixdb.limits import NAMESPACE_ID_MAX, RANGE_TOMBSTONES_MAX
from prefixdb.records import decode_value
from prefixdb.store.base import (
    Absent,
    Commit,
    CommitResult,
    Delete,
    Dropped,
    Emptiness,
    Ingest,
    ReclaimProgress,
    Row,
    SpanSize,
    StoreStatus,
)
from prefixdb.store.commit import BatchPlanner, GroupCommitter
from prefixdb.store.cursor import LsmCursor, violation
from prefixdb.store.directory import ForkGuard, StoreState
from prefixdb.store.engine import Engine, EngineOpener, EngineOptions
from prefixdb.store.faults import STALL_RETRY_MS, Doing, translate, translated
from prefixdb.store.health import WriteHealth
from prefixdb.store.opening import END_OF_KEYS, OpenDirectory, close_engine
from prefixdb.store.slot import EngineSlot
from prefixdb.store.space import SpaceKeeper

log = logging.getLogger("prefixdb.store")

HOUSEKEEPING_SECONDS = 1.0
"""How often the housekeeping thread saves the side file, flushes range tombstones and looks for disk space."""

SIZE_PROPERTIES = (
    "rocksdb.cur-size-all-mem-tables",
    "rocksdb.block-cache-usage",
    "rocksdb.estimate-table-readers-mem",
)


class LsmStore:
    """See ``prefixdb.store.base.Store``. Made by a subclass's ``open``; thread-safe."""

    kind: ClassVar[str] = "lsm"

    @classmethod
    def _open(
        cls, opener: EngineOpener, data_dir: Path, *, clock: Clock, durability: str, options: EngineOptions
    ) -> Self:
        if durability not in ("fsync", "os"):
            raise ValueError("durability must be 'fsync' or 'os'")
        directory = OpenDirectory(data_dir, opener, options)
        try:
            engine = directory.open_engine(clock)
            return cls(directory, engine, clock, durability)
        except BaseException:
            directory.release()
            raise

    def __init__(self, directory: OpenDirectory, engine: Engine, clock: Clock, durability: str) -> None:
        self._directory = directory
        self._clock = clock
        self._durability = durability
        self._engine_name = engine.name
        self._slot = EngineSlot(engine)
        self._read: Callable[[bytes], bytes | None] = engine.get
        self._commit_lock = threading.Lock()
        self._sequence = engine.last_sequence()
        self._tombstones = 0
        self._cursors: weakref.WeakSet[LsmCursor] = weakref.WeakSet()
        self._cursors_lock = threading.Lock()
        self._health = WriteHealth(directory)
        self._space = SpaceKeeper(
            directory.engine_dir, self._slot, self.commit, self._open_raw, lambda: self._tombstones
        )
        self._banned: frozenset[int] = frozenset()
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._fork_guard = ForkGuard(self._after_fork)
        self._housekeeper = threading.Thread(target=self._keep_house, name="prefixdb-store", daemon=True)
        self._housekeeper.start()

    # --- reads -----------------------------------------------------------------------------------------------------

    def get(self, key: RowKey) -> Row | None:
        try:
            stored = self._read(key)
        except Exception:  # noqa: BLE001 - read again, which translates what it meets
            stored = self._read_again(key)
        if stored is None:
            return None
        payload, version, expires_at_ms = decode_value(stored)
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
            payload, version, expires_at_ms = decode_value(stored)
            rows.append(None if 0 < expires_at_ms <= now_ms else Row(key, payload, version, expires_at_ms))
        return rows

    def open_cursor(
        self, span: Span, *, reverse: bool = False, keys_only: bool = False, raw: bool = False
    ) -> LsmCursor:
        with self._slot.use() as engine:
            clock = None if raw else self._clock
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
            with self._cursors_lock:
                self._cursors.add(cursor)
        return cursor

    # --- commits ---------------------------------------------------------------------------------------------------

    def commit(self, commit: Commit) -> CommitResult:
        return self.commit_many((commit,))[0]

    def commit_many(self, commits: Sequence[Commit]) -> list[CommitResult]:
        with self._commit_lock:
            self._slot.check()
            if self._health.failure is not None and not self._health.try_recover(self._reopen):
                raise self._health.refusal()
            with self._slot.use() as engine:
                return self._commit_locked(engine, commits)

    def _commit_locked(self, engine: Engine, commits: Sequence[Commit]) -> list[CommitResult]:
        sequence = engine.last_sequence()
        batch = engine.new_batch()
        planner = BatchPlanner(self._read_translated, batch, sequence, self._clock.now_ms())
        results = [planner.add(commit) for commit in commits]
        if planner.sequence == sequence:
            return results
        if planner.range_deletes:
            self._admit_range_deletes(planner.range_deletes)
        try:
            engine.write(batch, self._durability == "fsync")
        except Exception as failure:
            raise self._write_failed(failure) from failure
        found = engine.last_sequence()
        if found != planner.sequence:
            # The versions just written are wrong, and every condition that compares them would be.
            raise self._poison(error(Reason.INTERNAL, "The storage engine counted a batch differently."))
        self._sequence = found
        for commit in commits:
            self._space.note_writes(commit)
        return results

    def _admit_range_deletes(self, count: int) -> None:
        """Keep range tombstones in the memtable few: 1,000 of them cost every read 220 µs, 20,000 cost 4.2 ms."""
        if self._tombstones and self._tombstones + count > 2 * RANGE_TOMBSTONES_MAX:
            self._wake.set()
            raise error(Reason.WRITE_STALL, retry_after_ms=STALL_RETRY_MS)
        self._tombstones += count
        if self._tombstones >= RANGE_TOMBSTONES_MAX:
            self._wake.set()

    def _write_failed(self, failure: Exception) -> PrefixdbError:
        refusal = translate(failure, Doing.WRITE)
        if refusal.reason is not Reason.WRITE_STALL:
            # The engine writes nothing more until it is reopened; what was read before can still be read.
            log.error("a write failed; the store refuses writes until the disk is well: %s", failure)
            self._health.fail(refusal)
        return refusal

    # --- space -----------------------------------------------------------------------------------------------------

    def span_size(
        self, span: Span, *, exact_rows_max: int = 1_000, stop: Callable[[], bool] = lambda: False
    ) -> SpanSize:
        return self._space.size(span, exact_rows_max, lambda: stop() or self._closing.is_set())

    def publish_bans(self, namespace_ids: Collection[int]) -> None:
        self._slot.check()
        if not all(
            type(namespace_id) is int and 0 < namespace_id <= NAMESPACE_ID_MAX for namespace_id in namespace_ids
        ):
            raise ValueError("a namespace that can not be banned")
        self._banned = self._banned.union(namespace_ids)

    def withdraw_bans(self, namespace_ids: Collection[int]) -> None:
        self._slot.check()
        self._banned = self._banned.difference(namespace_ids)

    def dropped(self, namespace_id: int) -> Dropped:
        # Background compactions of this engine know nothing of bans; what goes, goes by ``reclaim``.
        return Dropped(0, 0)

    def reclaim(
        self,
        namespace_ids: Sequence[int],
        *,
        on_progress: Callable[[int, ReclaimProgress], None],
        stop: Callable[[], bool],
    ) -> None:
        if not self._banned.issuperset(namespace_ids):
            raise ValueError("only published namespaces are reclaimed")
        for namespace_id in namespace_ids:
            report = functools.partial(on_progress, namespace_id)
            self._space.reclaim(namespace_span(namespace_id), report, lambda: stop() or self._closing.is_set())

    def prove_empty(self, span: Span) -> Emptiness:
        return self._space.prove_empty(span)

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

    def compact(self, span: Span | None = None) -> None:
        with self._slot.use() as engine, translated(Doing.MAINTAIN):
            engine.compact(span.begin if span else None, span.end if span else None)

    def flush(self) -> None:
        with self._commit_lock:
            flushed = self._tombstones
        with self._slot.use() as engine, translated(Doing.MAINTAIN):
            engine.flush()
        with self._commit_lock:
            self._tombstones -= flushed

    def checkpoint(self, target: Path) -> None:
        with self._commit_lock, self._slot.use() as engine:
            self._directory.checkpoint(engine, target, self._sequence, self._clock.now_ms())

    def status(self) -> StoreStatus:
        with self._slot.use() as engine, translated(Doing.READ):
            memory = sum(map(engine.property_int, SIZE_PROPERTIES))
            rows = engine.property_int("rocksdb.estimate-num-keys")
            extra = {"range_tombstones": str(self._tombstones), "open_cursors": str(len(self._cursors))}
            for name in ("num-running-compactions", "num-running-flushes", "is-write-stopped", "background-errors"):
                extra[name.replace("-", "_")] = str(engine.property_int("rocksdb." + name))
        return StoreStatus(
            name=self.kind,
            engine=self._engine_name,
            durability=self._durability,
            writable=self._health.failure is None,
            last_version=self._sequence,
            disk_bytes=self._directory.disk_bytes(),
            memory_bytes=memory,
            rows_estimate=rows,
            extra=extra,
        )

    def new_committer(self) -> GroupCommitter:
        return GroupCommitter(self)

    def open_ingest(self, span: Span) -> Ingest | None:
        # The binding has no call that brings finished files in under guards.
        return None

    # --- life ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.set()
        if threading.current_thread() is not self._housekeeper:
            self._housekeeper.join()
        with self._commit_lock:
            self._settle()
            self._stop_serving(lambda: RuntimeError("the store is closed"))
        self._end_cursors(lambda: RuntimeError("the store is closed"))
        close_engine(self._slot)
        self._fork_guard.release()
        self._directory.release()

    def _settle(self) -> None:
        """Leave nothing to replay and a side file that is exact; a failure costs the next start time, not data."""
        if self._health.failure is not None:
            return
        try:
            with self._slot.use() as engine:
                engine.flush()
                self._directory.save(engine, self._sequence, self._clock.now_ms())
        except Exception:
            log.exception("the last flush failed; the next start replays the write-ahead log")

    def _stop_serving(self, refusal: Callable[[], BaseException]) -> None:
        def refuse(_key: bytes) -> bytes | None:
            raise refusal()

        self._slot.refuse(refusal)
        self._read = refuse

    def _poison(self, failure: PrefixdbError) -> PrefixdbError:
        """Refuse all work from now on and return ``failure``: what was found means that no answer can be trusted."""
        log.critical("the store has stopped serving: %s", failure.message)
        reason, message = failure.reason, failure.message
        self._stop_serving(lambda: error(reason, message))
        return failure

    def _on_violation(self) -> PrefixdbError:
        return self._poison(violation())

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

    def _reopen(self) -> None:
        """Exchange the engine for a fresh one; the commit lock is held. Cursors end: their view dies with the old."""

        def wait_and_read(key: bytes) -> bytes | None:
            with self._slot.use() as engine:
                return engine.get(key)

        self._read = wait_and_read
        self._end_cursors(lambda: error(Reason.READ_ONLY_STORE, "The store was reopened; start the scan again."))
        self._slot.interrupt()
        failure = self._slot.exchange(lambda old: self._directory.reopen_engine(old, self._sequence))
        with self._slot.use() as engine:
            self._read = engine.get
            # More than we knew is possible: a write whose outcome was unknown turns out to be there.
            self._sequence = max(self._sequence, engine.last_sequence())
        self._tombstones = 0
        if failure is not None:
            raise failure

    def _end_cursors(self, reason: Callable[[], BaseException]) -> None:
        with self._cursors_lock:
            cursors = list(self._cursors)
        for cursor in cursors:
            cursor.end(reason)

    def _keep_house(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(HOUSEKEEPING_SECONDS)
            self._wake.clear()
            if self._closing.is_set():
                return
            try:
                self._directory.check()
            except PrefixdbError as failure:
                self._poison(failure)
                return
            try:
                self._house_round()
            except Exception:
                if not self._closing.is_set():
                    log.exception("housekeeping failed; it is tried again in a second")

    def _house_round(self) -> None:
        if self._health.failure is not None:
            with self._commit_lock:
                self._health.try_recover(self._reopen)
            return
        if self._tombstones >= RANGE_TOMBSTONES_MAX:
            self.flush()
        self._directory.save_if_due(self._observe, self._clock.now_ms())

    def _observe(self) -> StoreState:
        with self._commit_lock, self._slot.use() as engine:
            return self._directory.observe(engine, self._sequence, self._clock.now_ms())

    def _after_fork(self) -> None:
        def refusal() -> BaseException:
            return RuntimeError("the store belongs to the parent process; open one after forking")

        self._stop_serving(refusal)
        self._slot.forget(refusal)
        self._closing.set()
        for cursor in list(self._cursors):
            cursor.abandon()
        self._directory.forget()
