"""What both stores share: the life of an open data directory. Rows, commits and cursors are each store's own.

Here are the opening and the closing, the exchange of the engine after a write error, the housekeeping thread, the guard
against forked children, refusing everything once an answer can not be trusted, published bans, and what passes straight
to the engine. Space (sizes, reclaim, proofs) is in ``reclaiming``, opening in ``opening``, write errors in ``health``.

Lock order: commit lock, then the engine slot, then cursors. Reads of single rows take no lock at all.
"""

from __future__ import annotations

import logging
import shutil
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import ClassVar, Generic, Protocol, Self

from prefixdb.archive.scanned import RowsScanner
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import Span
from prefixdb.limits import NAMESPACE_ID_MAX, RANGE_TOMBSTONES_MAX
from prefixdb.store.base import Emptiness, ReclaimProgress, Snapshot, SpanSize, StoreStatus
from prefixdb.store.cursor import violation
from prefixdb.store.directory import INGEST_NAME, ForkGuard, StoreState, skip_destructors_at_exit_of_children
from prefixdb.store.engine import MEMTABLES_MAX, E, EngineCheck, EngineOpener, EngineOptions, LiveFile
from prefixdb.store.faults import Doing, cannot_open, translate, translated
from prefixdb.store.health import WriteHealth
from prefixdb.store.opening import OpenDirectory, close_engine
from prefixdb.store.reclaiming import SpaceKeeper
from prefixdb.store.reserve import SpaceReserve
from prefixdb.store.slot import EngineSlot
from prefixdb.store.snapshots import SnapshotKeeper

log = logging.getLogger("prefixdb.store")

skip_destructors_at_exit_of_children()

HOUSEKEEPING_SECONDS = 1.0
"""How often the housekeeping thread saves the side file, flushes range tombstones and looks for disk space."""

SIZE_PROPERTIES = (
    "rocksdb.cur-size-all-mem-tables",
    "rocksdb.block-cache-usage",
    "rocksdb.estimate-table-readers-mem",
)


class EndableCursor(Protocol):
    """A cursor the store can end from any thread."""

    def end(self, reason: Callable[[], BaseException]) -> None:
        """Release the view; later calls raise ``reason()``. The first reason stays."""

    def abandon(self) -> None:
        """Make sure that no destructor of the engine's ever runs: this is a forked child."""


class StoreCore(ABC, Generic[E]):
    """The part of ``prefixdb.store.base.Store`` that is the same for every engine. Thread-safe.

    A subclass sets ``_space``, and names the engine's reads in :meth:`_adopt`.
    """

    kind: ClassVar[str]
    _space: SpaceKeeper[E]

    @classmethod
    def _open(
        cls,
        opener: EngineOpener[E],
        check: EngineCheck,
        data_dir: Path,
        clock: Clock,
        options: EngineOptions,
    ) -> Self:
        try:
            directory = OpenDirectory(data_dir, opener, check, options)
            try:
                engine = directory.open_engine(clock)
                try:
                    return cls(directory, engine, clock, options)
                except BaseException:
                    engine.close()
                    raise
            except BaseException:
                directory.release()
                raise
        except OSError as failure:
            raise cannot_open(data_dir, failure) from failure

    def __init__(self, directory: OpenDirectory[E], engine: E, clock: Clock, options: EngineOptions) -> None:
        self._directory = directory
        self._clock = clock
        self._durability = "fsync" if options.sync else "os"
        self._engine_name = engine.name
        self._slot: EngineSlot[E] = EngineSlot(engine)
        self._commit_lock = threading.Lock()
        self._sequence = engine.last_sequence()
        self._cursors: weakref.WeakSet[EndableCursor] = weakref.WeakSet()
        self._cursors_lock = threading.Lock()
        self._health = WriteHealth(directory)
        self._reserve = SpaceReserve(directory.data_dir, MEMTABLES_MAX * options.write_buffer_bytes)
        self._reserve.look()
        self._banned: frozenset[int] = frozenset()
        self._bans_lock = threading.Lock()
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._adopt(engine)
        # What an ingest that was cut off has left is nobody's.
        shutil.rmtree(directory.data_dir / INGEST_NAME, ignore_errors=True)
        self._snapshots = SnapshotKeeper(directory.data_dir)
        self._fork_guard = ForkGuard(self._after_fork)
        self._housekeeper = threading.Thread(target=self._keep_house, name="prefixdb-store", daemon=True)

    @property
    def rows_scanner(self) -> RowsScanner | None:
        return None

    # --- what a store does in its own way ----------------------------------------------------------------------------

    @abstractmethod
    def _adopt(self, engine: E) -> None:
        """Read from this engine from now on; it takes nobody's call before this returns."""

    @abstractmethod
    def _read_through_slot(self) -> None:
        """Make single reads wait for the exchange of the engine that begins now."""

    @abstractmethod
    def _refuse_reads(self, refusal: Callable[[], BaseException]) -> None:
        """Let every single read raise ``refusal()``."""

    @abstractmethod
    def _range_deletes_in_memory(self, engine: E) -> int:
        """Return how many range tombstones wait for a flush."""

    @abstractmethod
    def flush(self) -> None:
        """See ``Store.flush``."""

    @abstractmethod
    def _copy_to(self, target: Path) -> int:
        """Write an openable copy into ``target``, without a pause for writers, and return a version up to which every
        commit is in it."""

    def _pass_on_bans(self, published: Collection[int], withdrawn: Collection[int]) -> None:
        """Tell the engine what became of bans. The lock of the bans is held, so that an engine which is just being
        exchanged can not be told of a ban that was withdrawn meanwhile: its number may have a new owner."""

    def _note_space(self) -> None:
        """Take note that the space on the disk has become low, or enough again."""

    def _known_sequence(self, engine: E) -> int:
        """Return the sequence number of the newest acknowledged write; the commit lock is held."""
        return self._sequence

    def _recover(self) -> None:
        """Make writes possible again, or raise; the commit lock is held."""
        self._reopen()

    # --- space -------------------------------------------------------------------------------------------------------

    def span_size(
        self, span: Span, *, exact_rows_max: int = 1_000, stop: Callable[[], bool] = lambda: False
    ) -> SpanSize:
        return self._space.size(span, exact_rows_max, lambda: stop() or self._closing.is_set())

    def publish_bans(self, namespace_ids: Collection[int]) -> None:
        self._slot.check()
        if not all(type(each) is int and 0 < each <= NAMESPACE_ID_MAX for each in namespace_ids):
            raise ValueError("a namespace that can not be banned")
        with self._bans_lock:
            self._banned = self._banned.union(namespace_ids)
            self._pass_on_bans(namespace_ids, ())

    def withdraw_bans(self, namespace_ids: Collection[int]) -> None:
        self._slot.check()
        with self._bans_lock:
            self._banned = self._banned.difference(namespace_ids)
            self._pass_on_bans((), namespace_ids)

    def reclaim(
        self,
        namespace_ids: Sequence[int],
        *,
        on_progress: Callable[[int, ReclaimProgress], None],
        stop: Callable[[], bool],
    ) -> None:
        if not self._banned.issuperset(namespace_ids):
            raise ValueError("only published namespaces are reclaimed")
        self._space.reclaim(namespace_ids, on_progress, lambda: stop() or self._closing.is_set())

    def prove_empty(self, span: Span) -> Emptiness:
        return self._space.prove_empty(span)

    def compact(self, span: Span | None = None) -> None:
        with self._slot.use() as engine, translated(Doing.MAINTAIN):
            engine.compact(span.begin if span else None, span.end if span else None)

    def checkpoint(self, target: Path) -> None:
        self._copy_to(target)

    def open_snapshot(self) -> Snapshot:
        self._slot.check()
        return self._snapshots.take(self._copy_to, self._live_files)

    def _live_files(self) -> list[LiveFile]:
        with self._slot.use() as engine, translated(Doing.READ):
            return engine.live_files()

    def status(self) -> StoreStatus:
        with self._slot.use() as engine, translated(Doing.READ):
            sequence = self._known_sequence(engine)
            memory = sum(map(engine.property_int, SIZE_PROPERTIES))
            rows = engine.property_int("rocksdb.estimate-num-keys")
            extra = {
                "range_tombstones": str(self._range_deletes_in_memory(engine)),
                "open_cursors": str(len(self._cursors)),
                "open_snapshots": str(len(self._snapshots)),
                "published_bans": str(len(self._banned)),
            }
            for name in ("num-running-compactions", "num-running-flushes", "is-write-stopped", "background-errors"):
                extra[name.replace("-", "_")] = str(engine.property_int("rocksdb." + name))
        return StoreStatus(
            name=self.kind,
            engine=self._engine_name,
            durability=self._durability,
            writable=self._health.failure is None and not self._reserve.low,
            last_version=sequence,
            disk_bytes=self._directory.disk_bytes(),
            memory_bytes=memory,
            rows_estimate=rows,
            extra=extra,
        )

    # --- write errors ------------------------------------------------------------------------------------------------

    def _write_failed(self, failure: Exception) -> PrefixdbError:
        """Return the error for the writers of a batch, and refuse writes from now on when the engine does."""
        refusal = translate(failure, Doing.WRITE)
        if refusal.reason is not Reason.WRITE_STALL:
            # The engine writes nothing more until it is recovered; what was read before can still be read.
            log.error("a write failed; the store refuses writes until the disk is well: %s", failure)
            self._health.fail(refusal)
        return refusal

    def _reopen(self) -> None:
        """Exchange the engine for a fresh one; the commit lock is held. Cursors end: their view dies with the old."""
        self._read_through_slot()
        self._end_cursors(reopened)
        self._slot.interrupt()
        failure = self._slot.exchange(self._exchanged)
        with self._slot.use() as engine:
            # More than we knew is possible: a write whose outcome was unknown turns out to be there.
            self._sequence = max(self._sequence, engine.last_sequence())
            self._adopt(engine)
        if failure is not None:
            raise failure

    def _exchanged(self, old: E) -> tuple[E, PrefixdbError | None]:
        self._sequence = self._known_sequence(old)
        return self._directory.reopen_engine(old, self._sequence)

    # --- life --------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.set()
        if threading.current_thread() is not self._housekeeper and self._housekeeper.ident is not None:
            self._housekeeper.join()
        with self._commit_lock:
            self._settle()
            self._stop_serving(lambda: RuntimeError("the store is closed"))
        self._end_cursors(lambda: RuntimeError("the store is closed"))
        close_engine(self._slot)
        self._snapshots.close_all()
        self._fork_guard.release()
        self._directory.release()

    def _settle(self) -> None:
        """Leave nothing to replay and a side file that is exact; a failure costs the next start time, not data."""
        if self._health.failure is not None:
            return
        try:
            with self._slot.use() as engine:
                engine.flush()
                self._directory.save(engine, self._known_sequence(engine), self._clock.now_ms())
        except Exception:
            log.exception("the last flush failed; the next start replays the write-ahead log")

    def _stop_serving(self, refusal: Callable[[], BaseException]) -> None:
        self._slot.refuse(refusal)
        self._refuse_reads(refusal)

    def _poison(self, failure: PrefixdbError) -> PrefixdbError:
        """Refuse all work from now on and return ``failure``: what was found means that no answer can be trusted."""
        log.critical("the store has stopped serving: %s", failure.message)
        reason, message = failure.reason, failure.message
        self._stop_serving(lambda: error(reason, message))
        return failure

    def _on_violation(self) -> PrefixdbError:
        return self._poison(violation())

    def _keep_cursor(self, cursor: EndableCursor) -> None:
        with self._cursors_lock:
            self._cursors.add(cursor)

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
                if self._reserve.look():
                    self._note_space()
                    log.warning("the disk is %s", "nearly full; new rows are refused" if self._reserve.low else "well")
                self._house_round()
            except Exception:
                if not self._closing.is_set():
                    log.exception("housekeeping failed; it is tried again in a second")

    def _house_round(self) -> None:
        if self._health.failure is not None:
            with self._commit_lock:
                self._health.try_recover(self._recover)
            return
        with self._slot.use() as engine:
            tombstones = self._range_deletes_in_memory(engine)
        if tombstones >= RANGE_TOMBSTONES_MAX:
            self.flush()
        self._directory.save_if_due(self._observe, self._clock.now_ms())

    def _observe(self) -> StoreState:
        with self._commit_lock, self._slot.use() as engine:
            # The number first: the files looked at afterwards hold at least what it counts.
            sequence = self._known_sequence(engine)
            return self._directory.observe(engine, sequence, self._clock.now_ms())

    def _after_fork(self) -> None:
        def refusal() -> BaseException:
            return RuntimeError("the store belongs to the parent process; open one after forking")

        self._stop_serving(refusal)
        self._slot.forget(refusal)
        self._closing.set()
        for cursor in list(self._cursors):
            cursor.abandon()
        self._snapshots.forget()
        self._directory.forget()


def reopened() -> PrefixdbError:
    """Return the error for a cursor whose engine was exchanged."""
    return error(Reason.READ_ONLY_STORE, "The store was reopened; start the scan again.")


def is_synced(durability: str) -> bool:
    """Return whether commits are on disk when they are acknowledged (``fsync``), or not (``os``).

    Raises:
        ValueError: neither of the two.
    """
    if durability not in ("fsync", "os"):
        raise ValueError("durability must be 'fsync' or 'os'")
    return durability == "fsync"
