"""RocksDB through the extension: the store with the compaction filter. The only module that imports the extension.

Rows are decoded, commits planned and keys checked in C++, with the interpreter's lock released. A committer thread in
the engine gathers whatever is waiting into one batch and one sync, for blocking callers and for an event loop alike.
What is left here, beside what both stores share (``core``), is the translation of errors, and when to do what:

- A ban is published to the filter and to every engine that is opened later; from then on each compaction that meets the
  namespace drops it.
- Expired rows leave in the same way. Once a second the filter is told what time it is by the store's own clock, so that
  it drops only what every read hides already. RocksDB rewrites files that nothing else touches after thirty days.
- An engine that has met an error after which it writes no more is exchanged, as in the other store; here a failed flush
  in the background is noticed without a write that meets it.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NoReturn

from prefixdb._native import module
from prefixdb.archive.scanned import RowsFacts, RowsScanner
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import RowKey, Span
from prefixdb.limits import MIB, RANGE_TOMBSTONES_MAX
from prefixdb.store import base
from prefixdb.store.base import Commit, CommitResult, Committer, Condition, Dropped, Ingest, Put, Row, StoreStatus
from prefixdb.store.commit import GroupCommitter
from prefixdb.store.core import StoreCore, is_synced, reopened
from prefixdb.store.cursor import cursor_clock, violation
from prefixdb.store.engine import EngineOptions, LiveFile, TableWriter, max_open_files
from prefixdb.store.faults import Doing, translate, translated
from prefixdb.store.following import Follower, Following
from prefixdb.store.ingest import FileIngest
from prefixdb.store.native_committer import CommitQueue, NativeCommitter
from prefixdb.store.native_cursor import NativeCursor
from prefixdb.store.native_selftest import check_native
from prefixdb.store.native_space import NativeSpace
from prefixdb.store.opening import OpenDirectory

log = logging.getLogger("prefixdb.store")

module.set_types(
    {
        each.__name__: each
        for each in (
            base.Row,
            base.CommitResult,
            base.Put,
            base.Delete,
            base.DeleteSpan,
            base.VersionIs,
            base.Absent,
            base.Exists,
            base.ValueIs,
        )
    }
)

check_table_file = module.check_table
"""Raise unless every checksum in a table file is right; for ``prefixdb.store.checks``."""

check_manifest_of = module.check_manifest
"""The same for the MANIFEST of an engine's directory."""

FILTER_COUNTS = ("malformed_kept", "expired_dropped", "namespaces_skipped")
"""What of the filter's counts the status tells."""


class NativeRowsScanner:
    """``prefixdb.archive.scanned.RowsScanner`` of the extension; it needs no store."""

    def scan(self, content: bytes) -> RowsFacts | None:
        """Return the facts of a frame's rows, None for what only the slower way can judge."""
        found = module.scan_rows(content)
        return None if found is None else RowsFacts._make(found)

    def versions(self, content: bytes) -> array[int] | None:
        """Return the versions of a frame's rows in order, None as for ``scan``."""
        found = module.row_versions(content)
        return None if found is None else array("Q", found)


class NativeEngine:
    """``prefixdb.store.engine.FilterEngine`` on the extension, and its reads and commits as they are.

    ``handle`` is the extension's own object. Every call may run while another thread closes the engine; it is answered
    with ``EngineClosedError`` then.
    """

    name = f"native (RocksDB {module.ROCKSDB_VERSION})"

    def __init__(self, path: Path, options: EngineOptions) -> None:
        engine = module.Engine(
            str(path),
            create=options.create,
            read_only=options.read_only,
            sync=options.sync,
            cache_bytes=options.cache_bytes,
            write_buffer_bytes=options.write_buffer_bytes,
            max_open_files=max_open_files(),
            compaction_bytes_per_second=options.compaction_bytes_per_second,
            range_deletes_max=2 * RANGE_TOMBSTONES_MAX,
        )
        self.get = engine.get
        self.get_many = engine.get_many
        self.open_cursor = engine.open_cursor
        self.commit = engine.commit
        self.submit = engine.submit
        self.completions_fd = engine.completions_fd
        self.completions = engine.completions
        self.put_synced = engine.put_raw
        self.failure = engine.failure
        self.publish_bans = engine.publish_bans
        self.withdraw_bans = engine.withdraw_bans
        self.set_expiry_horizon = engine.set_expiry_horizon
        self.dropped = engine.dropped
        self.filter_counts = engine.filter_counts
        self.delete_files = engine.delete_files
        self.has_any_version = engine.has_any_version
        self.range_deletes = engine.range_deletes
        self.unflushed_range_deletes = engine.unflushed_range_deletes
        self.approximate_bytes = engine.approximate_bytes
        self.namespace_size = engine.namespace_size
        self.flush = engine.flush
        self.last_sequence = engine.last_sequence
        self.property_int = engine.property_int
        self.table_writer = engine.table_writer
        self.ingest = engine.ingest
        self.cancel_background = engine.cancel_background
        self.close = engine.close
        self.abandon = engine.abandon
        self.handle = engine

    def compact(self, begin: bytes | None, end: bytes | None, stop: Callable[[], bool] = lambda: False) -> bool:
        return self.handle.compact(begin, end, stop)

    def live_files(self) -> list[LiveFile]:
        return [LiveFile(*file) for file in self.handle.live_files()]

    def checkpoint(self, target: Path) -> None:
        self.handle.checkpoint(str(target))


NativeOpener = Callable[[Path, EngineOptions], NativeEngine]


class NativeStore(StoreCore[NativeEngine]):
    """The store on the extension; see ``prefixdb.store.base`` for what it promises."""

    kind = "native"
    _read: Callable[[bytes], Row | None]

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
    ) -> NativeStore:
        """Open the data directory, or create it. Arguments and errors are those of ``RocksdictStore.open``."""
        options = EngineOptions(
            cache_bytes=cache_bytes,
            write_buffer_bytes=write_buffer_bytes,
            sync=is_synced(durability),
            compaction_bytes_per_second=compaction_bytes_per_second,
        )
        return cls.open_with(NativeEngine, data_dir, clock=clock, options=options)

    @classmethod
    def open_with(cls, opener: NativeOpener, data_dir: Path, *, clock: Clock, options: EngineOptions) -> NativeStore:
        """Open the data directory with engines that ``opener`` makes."""
        return cls._open(opener, lambda: check_native(opener, read_failure), data_dir, clock, options)

    def __init__(
        self, directory: OpenDirectory[NativeEngine], engine: NativeEngine, clock: Clock, options: EngineOptions
    ) -> None:
        self._committer: NativeCommitter | None = None
        self._following = Following(lambda: self._health.failure is not None or self._reserve.low)
        super().__init__(directory, engine, clock, options)
        self._space = NativeSpace(
            directory.engine_dir,
            self._slot,
            lambda span: self.open_cursor(span, raw=True),
            snapshots=self._snapshots,
        )
        self._housekeeper.start()

    # --- reads -------------------------------------------------------------------------------------------------------

    def get(self, key: RowKey) -> Row | None:
        try:
            row = self._read(key)
        except Exception:  # noqa: BLE001 - read again, which translates what it meets
            row = self._read_again(key)
        if row is not None and row[3] and row[3] <= self._clock.now_ms():
            return None
        return row

    def get_many(self, keys: Sequence[RowKey]) -> list[Row | None]:
        if not keys:
            return []
        with self._slot.use() as engine:
            try:
                return engine.get_many(keys, self._clock.now_ms())
            except Exception as failure:
                raise self._read_failed(failure) from failure

    def open_cursor(
        self,
        span: Span,
        *,
        reverse: bool = False,
        keys_only: bool = False,
        raw: bool = False,
        one_instant: bool = False,
    ) -> NativeCursor:
        with self._slot.use() as engine:
            clock = cursor_clock(self._clock, raw=raw, one_instant=one_instant)
            try:
                handle = engine.open_cursor(
                    span.begin,
                    span.end,
                    reverse=reverse,
                    keys_only=keys_only,
                    bound=span.end,
                    # Whole namespaces on their way out would push everybody's rows out of the cache.
                    bulk=one_instant and not keys_only,
                )
            except Exception as failure:
                raise self._read_failed(failure) from failure
            cursor = NativeCursor(handle, clock, check=self._slot.check, translate=self._read_failed)
            self._keep_cursor(cursor)
        return cursor

    # --- commits -----------------------------------------------------------------------------------------------------

    def commit(self, commit: Commit) -> CommitResult:
        return self.commit_many((commit,))[0]

    def commit_many(self, commits: Sequence[Commit]) -> list[CommitResult]:
        self._slot.check()
        if self._health.failure is not None:
            self.admit()
        self._reserve.admit(commits)
        with self._slot.use() as engine:
            self._space.note_writes(commits)
            try:
                return engine.commit(commits, self._clock.now_ms())
            except Exception as failure:  # noqa: BLE001 - raised again, in the caller's terms
                self._raise_commit_failure(engine, failure)

    @property
    def rows_scanner(self) -> RowsScanner | None:
        return NativeRowsScanner()

    def refuses_writes(self) -> bool:
        """Return whether a write error has not been recovered from yet."""
        return self._health.failure is not None

    def admit(self) -> None:
        """Raise unless writes are possible; tries to recover when it is time to. Blocks meanwhile."""
        with self._commit_lock:
            self._slot.check()
            if not self._health.try_recover(self._recover):
                raise self._health.refusal()
        self._following.look()

    def submit(self, commits: Sequence[Commit]) -> tuple[CommitQueue, int, Callable[[Exception], BaseException]]:
        """Queue commits for the engine's committer thread; see ``native_committer.QueueStore``."""
        self._slot.check()
        self._reserve.admit(commits)
        with self._slot.use() as engine:
            self._space.note_writes(commits)
            try:
                ticket = engine.submit(commits, self._clock.now_ms())
            except Exception as failure:  # noqa: BLE001 - raised again, in the caller's terms
                self._raise_commit_failure(engine, failure)
        return engine, ticket, lambda failure: self._commit_failed(engine, failure)

    def new_committer(self) -> Committer:
        # The engine has one queue of answers, so one event loop can watch it; a second one goes through a thread.
        if self._committer is not None:
            return GroupCommitter(self)
        self._committer = NativeCommitter(self, self._committer_closed)
        return self._committer

    def open_ingest(self, span: Span) -> Ingest | None:
        return FileIngest(self, self._directory.data_dir, span)

    def ingest(
        self, paths: Sequence[str], span: Span, guards: Sequence[Condition], marker: Put | None
    ) -> CommitResult | None:
        """Bring finished files in, all or nothing; None when the span has rows. See ``ingest``."""
        with self._slot.use() as engine:
            self._space.note_ingest(span, marker)
            try:
                return engine.ingest(paths, span.begin, span.end, guards, self._clock.now_ms())
            except Exception as failure:
                if isinstance(failure, module.EngineError) and failure.attempted:
                    raise translate(failure, Doing.WRITE) from failure
                self._raise_commit_failure(engine, failure)

    def table_writer(self, path: Path) -> TableWriter:
        """Begin a sorted file for :meth:`ingest`."""
        if self._reserve.low:
            raise self._reserve.refusal()
        with self._slot.use() as engine, translated(Doing.MAINTAIN):
            return engine.table_writer(str(path))

    # --- a front beside us -------------------------------------------------------------------------------------------

    def follow(self, follower: Follower) -> None:
        """Have ``follower`` use the engine too; see ``following``."""
        self._following.follow(follower)

    def check_ready(self, doing: Literal["read", "write"], *, only_deletes: bool) -> None:
        """Return when the follower's engine is there and takes what is to be done, or raise why not. Blocks."""
        with self._commit_lock:  # An exchange is over, and told, when this is free.
            self._slot.check()
        if doing == "write" and self._health.failure is not None:
            self.admit()
        if doing == "write" and self._reserve.low and not only_deletes:
            raise self._reserve.refusal()

    def translated(self, doing: Literal["read", "write"], failure: Exception) -> BaseException:
        """Return the caller's error for what the follower has met, as if it had been met here, and note it."""
        if isinstance(failure, module.EngineClosedError):
            return self._gone(reopened if doing == "read" else self._health.refusal)
        if doing == "read":
            return self._read_failed(failure)
        if isinstance(failure, module.EngineError) and failure.attempted and self._following.failed_former():
            return translate(failure, Doing.WRITE)
        with self._slot.use() as engine:
            return self._commit_failed(engine, failure)

    # --- bans and space ----------------------------------------------------------------------------------------------

    def dropped(self, namespace_id: int) -> Dropped:
        with self._slot.use() as engine:
            return Dropped(*engine.dropped(namespace_id))

    def status(self) -> StoreStatus:
        status = super().status()
        with self._slot.use() as engine:
            counts = engine.filter_counts()
        return replace(status, extra=status.extra | {name: str(counts[name]) for name in FILTER_COUNTS})

    def sweep_expired(self, after: RowKey, max_rows: int) -> RowKey:
        # Compactions drop expired rows by themselves.
        self._slot.check()
        return RowKey(b"")

    def compact(self, span: Span | None = None) -> None:
        with self._slot.use() as engine:
            engine.set_expiry_horizon(self._clock.now_ms())
        super().compact(span)

    def flush(self) -> None:
        with self._slot.use() as engine, translated(Doing.MAINTAIN):
            engine.flush()

    def _copy_to(self, target: Path) -> int:
        # The engine takes its copy beside its committer: commits of the moment may be in it or not.
        with self._slot.use() as engine, translated(Doing.MAINTAIN):
            sequence = self._known_sequence(engine)
            self._directory.checkpoint(engine, target, sequence, self._clock.now_ms())
            return sequence

    # --- what the core asks for --------------------------------------------------------------------------------------

    def _adopt(self, engine: NativeEngine) -> None:
        self._read = engine.get
        engine.set_expiry_horizon(self._clock.now_ms())
        with self._bans_lock:
            engine.publish_bans(list(self._banned))
        self._following.adopt(engine)

    def _pass_on_bans(self, published: Collection[int], withdrawn: Collection[int]) -> None:
        # An engine that comes later publishes all there are, see ``_adopt``.
        with self._slot.use() as engine:
            engine.publish_bans(list(published))
            engine.withdraw_bans(list(withdrawn))

    def _read_through_slot(self) -> None:
        def wait_and_read(key: bytes) -> Row | None:
            with self._slot.use() as engine:
                return engine.get(key)

        self._read = wait_and_read

    def _refuse_reads(self, refusal: Callable[[], BaseException]) -> None:
        def refuse(_key: bytes) -> Row | None:
            raise refusal()

        self._read = refuse
        self._following.adopt(None)

    def _after_fork(self) -> None:
        self._following.forget()
        super()._after_fork()

    def _range_deletes_in_memory(self, engine: NativeEngine) -> int:
        return engine.unflushed_range_deletes()

    def _known_sequence(self, engine: NativeEngine) -> int:
        # The engine counts a batch when it is as durable as it will be, and acknowledges it then.
        return max(self._sequence, engine.last_sequence())

    def _house_round(self) -> None:
        with self._slot.use() as engine:
            engine.set_expiry_horizon(self._clock.now_ms())
            failure = engine.failure()
        if failure is not None and self._health.failure is None:
            self._write_failed(module.EngineError(failure))
        try:
            super()._house_round()
        finally:
            self._following.look()

    def _note_space(self) -> None:
        self._following.look()

    def _committer_closed(self) -> None:
        self._committer = None

    # --- errors ------------------------------------------------------------------------------------------------------

    def _read_again(self, key: bytes) -> Row | None:
        """Read once more, now waiting for an exchange of the engine: the first try may have met one."""
        with self._slot.use() as engine:
            try:
                return engine.get(key)
            except Exception as failure:
                raise self._read_failed(failure) from failure

    def _read_failed(self, failure: Exception) -> BaseException:
        if isinstance(failure, module.SpanViolationError):
            return self._on_violation()
        if isinstance(failure, module.EngineClosedError):
            return self._gone(self._health.refusal)
        return read_failure(failure)

    def _gone(self, while_exchanged: Callable[[], PrefixdbError]) -> BaseException:
        """Return the error for work that met the end of its engine: of the store, or else of this engine only."""
        try:
            self._slot.check()
        except BaseException as refusal:  # noqa: BLE001 - handed to whoever raises it
            return refusal
        return while_exchanged()

    def _write_failed(self, failure: Exception) -> PrefixdbError:
        refusal = super()._write_failed(failure)
        self._following.look()
        return refusal

    def _raise_commit_failure(self, engine: NativeEngine, failure: Exception) -> NoReturn:
        refusal = self._commit_failed(engine, failure)
        raise refusal from (None if refusal is failure else failure)

    def _commit_failed(self, engine: NativeEngine, failure: Exception) -> BaseException:
        """Return the caller's error for a request that was handed to ``engine``."""
        if isinstance(failure, module.EngineClosedError):
            return self._gone(self._health.refusal)
        if not isinstance(failure, module.EngineError):
            # A damaged row that a condition names, or an argument that is none: the request's own, nothing was written.
            return read_failure(failure) if isinstance(failure, module.DamagedRowError) else failure
        if str(failure).startswith("Internal"):
            return self._poison(error(Reason.INTERNAL, "The storage engine counted a batch differently."))
        if not failure.attempted:
            self._write_failed(failure)
            return self._health.refusal()
        refusal = translate(failure, Doing.WRITE)
        if refusal.reason is Reason.WRITE_STALL:
            # It may be range deletes that wait for a flush.
            self._wake.set()
            return refusal
        if engine.failure() is None:
            # Nothing was written: a row that a condition names could not be read. A failure of an engine stays.
            return translate(failure, Doing.READ)
        return self._write_failed(failure)


def read_failure(failure: Exception) -> BaseException:
    """Return the caller's error for a read that failed; what the engine raises is known here only."""
    if isinstance(failure, module.SpanViolationError):
        return violation()
    if isinstance(failure, module.DamagedRowError):
        return error(Reason.CORRUPTION, "A stored row is damaged; restore it from a backup.")
    if isinstance(failure, module.EngineClosedError):
        return failure
    return translate(failure, Doing.READ)
