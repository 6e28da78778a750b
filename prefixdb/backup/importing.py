"""Importing: the rows of a spooled archive into a namespace that lives, all of them once, whatever happens meanwhile.

    RECEIVED ──► conflicts? ──► FAILED                          nothing was written
        │
        ├──► files    no row is where the archive's rows go: sorted files, all at once, with a marker of their own
        └──► batches  else: commits, each with the record's next state; a small archive is one commit
                │
                └──► DONE                                       kept until its client has had time to ask

What an import has begun it finishes, also after a restart: it waits out write stalls and full disks, and is parked
while its namespace is read-only or suspended. A ban ends it, and damage of the spool. See ``import_ledger`` for why
nothing is applied twice.

Blocks; one thread runs it, and others read ``progress``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prefixdb.archive import Rows, ScannedRows
from prefixdb.backup.import_batch import Batch, applicable, batches_of, existing_keys
from prefixdb.backup.import_ledger import WAIT_S, WAIT_S_MAX, WAITED_FOR, ImportLedger, OvertakenError, Target
from prefixdb.backup.import_record import (
    ImportPhase,
    ImportRecord,
    OnConflict,
    conflict,
    decode_import,
    encode_import,
    marker_key,
)
from prefixdb.backup.placing import Frame, Turns, patiently, pieces_of
from prefixdb.backup.ranks import Ranks, ranks_of, versions_of
from prefixdb.backup.repeats import Different
from prefixdb.backup.spool import contents_of
from prefixdb.catalog.namespaces import Registry
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import RowKey, Span, data_key
from prefixdb.limits import MIB
from prefixdb.store.base import Absent, Delete, Put, Store
from prefixdb.store.version_rule import NEW_VERSIONS, VersionRule
from prefixdb.store.versions import reserve_versions

ATOMIC_ROWS = 10_000
"""Up to so many rows are one commit, which is what one Write may have."""

ATOMIC_BYTES = 8 * MIB
"""And up to so many bytes: others wait while it is written."""

_ENDED_BY = frozenset({Reason.ARCHIVE_INVALID, Reason.CORRUPTION, Reason.IMPORT_CONFLICT})

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Progress:
    """How far an import is; written by its thread.

    checking: looking for keys that exist.
    rows_done: of the phase.
    """

    checking: bool = True
    rows_done: int = 0


class Importer:
    """One import that is being applied.

    Args:
        store: the rows.
        registry: knows what the namespace is.
        clock: for rows whose lifetime is over.
        target: where to.
        path: the spool, a whole archive that was found right.
    """

    def __init__(self, store: Store, registry: Registry, clock: Clock, *, target: Target, path: Path) -> None:
        self._store = store
        self._clock = clock
        self._target = target
        self._path = path
        self._ledger = ImportLedger(store, registry, clock, target)
        self._ranks: Ranks | None = None
        self._turns = Turns()
        self.progress = Progress()

    def stop(self) -> None:
        """Have ``run`` and ``rehearse`` raise ImportStoppedError soon. Thread-safe."""
        self._ledger.stop()

    @property
    def is_open(self) -> bool:
        """Whether the namespace takes rows; raises as ``run``."""
        return self._ledger.is_open

    def begin(self, record: ImportRecord) -> None:
        """Write the record; from here on the import will be finished. Raises as ``ImportLedger.begin``."""
        self._ledger.begin(record)

    def run(self) -> ImportRecord:
        """Apply the archive, or what is left of it; return the record of what became of it.

        Raises:
            ImportParkedError: the namespace takes no rows; call it again when ``is_open``.
            ImportStoppedError: ``stop`` was called.
            NamespaceBannedError: NAMESPACE_BANNED, the namespace was dropped.
        """
        ended_by: PrefixdbError | None = None
        wait_s = WAIT_S
        while True:
            self._ledger.pause()
            try:
                record = self._ledger.load()
                if record.is_over:
                    return record
                if ended_by is not None:
                    self._fail(record, ended_by)
                elif record.phase is ImportPhase.RECEIVED:
                    self._decide(record)
                elif record.way == "files":
                    self._place_files(record)
                else:
                    self._place_batches(record)
            except OvertakenError:
                continue
            except PrefixdbError as failure:
                if failure.reason in _ENDED_BY:
                    ended_by = failure
                elif failure.reason in WAITED_FOR:
                    self._ledger.pause(wait_s)
                    wait_s = min(2 * wait_s, WAIT_S_MAX)
                else:
                    raise

    def rehearse(self, record: ImportRecord) -> ImportRecord:
        """Return what would become of ``record`` as things are now; nothing is written.

        Raises:
            AlreadyExistsError: IMPORT_CONFLICT, as the import would.
            ImportStoppedError: ``stop`` was called.
        """
        return replace(self._look(record), phase=ImportPhase.DONE)

    # --- deciding ----------------------------------------------------------------------------------------------------

    def _decide(self, record: ImportRecord) -> None:
        """Look for conflicts, settle how the rows come in, and write it down."""
        atomic = is_atomic(record)
        empty = self._span_is_empty(record)
        if record.on_conflict is OnConflict.FAIL and not (empty or atomic):
            self._look(record)
        blocks: tuple[tuple[int, int], ...] = ()
        if record.keep_order:
            self._ranks = ranks_of(self._versions())
            blocks = tuple(reserve_versions(self._store, self._ranks.wanted))
        way = "files" if empty and not atomic else "batches"
        # A version nobody else has names the attempt, so that its marker's key was never written before.
        decided = replace(
            record, phase=ImportPhase.APPLYING, way=way, blocks=blocks, attempt=record.row_version, position=0
        )
        self._ledger.save(record, decided)

    def _look(self, record: ImportRecord) -> ImportRecord:
        """Read the archive against the store and return the record with the counts of what would happen.

        Raises:
            AlreadyExistsError: IMPORT_CONFLICT with FAIL.
        """
        self.progress = Progress()
        folder = self._path.parent
        with Different(folder) as taken, Different(folder) as new:
            for batch in batches_of(self._pages(), self._clock, self._target.namespace_id):
                self._ledger.pause(self._turns.due())
                there = existing_keys(self._store, batch, record)
                record = counted_after(record, batch, applicable(batch, there, record.on_conflict), there)
                self.progress.rows_done = record.position
                taken.add(there)
                if not record.first:  # Unsorted, so a key may come again in a later batch.
                    new.add(put.key for put in batch.puts if put.key not in there)
            if record.on_conflict is OnConflict.FAIL and taken.added:
                raise conflict(taken.count())
            return counted_again(record, new.repeated)

    def _versions(self) -> Iterator[Sequence[int]]:
        for rows in self._pages():
            self._ledger.pause(self._turns.due())
            yield versions_of(rows)

    def _version_rule(self, record: ImportRecord) -> VersionRule:
        """Return what gives each of the archive's versions the one its rows will have; 0 for the commit's own."""
        if not record.blocks:
            return NEW_VERSIONS
        if self._ranks is None:
            self._ranks = ranks_of(self._versions())
        return self._ranks.mapped_onto(record.blocks)

    def _span_is_empty(self, record: ImportRecord) -> bool:
        span = self._span(record)
        if span is None:
            return False
        cursor = self._store.open_cursor(span, keys_only=True, raw=True)
        try:
            return not cursor.fetch(1, 1)
        finally:
            cursor.close()

    def _span(self, record: ImportRecord) -> Span | None:
        """Return the span from the first to the last row of a sorted archive; None for others."""
        if not record.first:
            return None
        first, last = (
            data_key(self._target.namespace_id, int.from_bytes(bound[:2]), bound[2:])
            for bound in (record.first, record.last)
        )
        return Span(first, RowKey(last + b"\0"))

    # --- sorted files ------------------------------------------------------------------------------------------------

    def _place_files(self, record: ImportRecord) -> None:
        """Bring all rows in at once, unless the marker says that it has been done."""
        marker = marker_key(self._target.record_key, record.attempt)
        found = self._store.get(marker)
        if found is not None:
            self._ledger.save(record, decode_import(found), Delete(marker))
            return
        span = self._span(record)
        ingest = self._store.open_ingest(span) if span is not None else None
        if ingest is None:
            self._ledger.save(record, replace(record, way="batches"))
            return
        self.progress = Progress(checking=False)
        done = record
        try:
            versions = self._version_rule(record)
            for rows in self._pages():
                self._ledger.pause()
                frame = Frame(rows, self._target.namespace_id, self._clock.now_ms(), versions)
                if not frame.add_to(ingest):
                    for piece in pieces_of((frame,)):
                        self._ledger.pause(self._turns.due())
                        ingest.add(piece)
                done = _counted(done, frame.count, frame.written)
                self.progress.rows_done = done.position
            self._ledger.pause()
            put = Put(marker, encode_import(replace(done, phase=ImportPhase.DONE)))
            result = patiently(lambda: ingest.finish(self._ledger.guards(record), marker=put), self._ledger.pause)
        finally:
            ingest.abort()
        if result is None:
            # Somebody has written there meanwhile; what that means for the archive is decided anew.
            self._ledger.save(record, replace(record, phase=ImportPhase.RECEIVED, way="", blocks=()))
        elif not result.applied:
            self._ledger.settle()

    # --- batches -----------------------------------------------------------------------------------------------------

    def _place_batches(self, record: ImportRecord) -> None:
        """Write what is left of the rows, each batch with the record's next state."""
        atomic = is_atomic(record)
        self.progress = Progress(checking=False, rows_done=record.position)
        batches = batches_of(
            self._pages(),
            self._clock,
            self._target.namespace_id,
            version_of=self._version_rule(record),
            skip=record.position,
            whole=atomic,
            last_wins=record.on_conflict is OnConflict.OVERWRITE,
        )
        for batch in batches:
            record = self._apply(record, batch, atomic=atomic)
            self.progress.rows_done = record.position
            self._ledger.pause(self._turns.due())
        if not record.is_over:
            self._ledger.save(record, replace(record, phase=ImportPhase.DONE))

    def _apply(self, record: ImportRecord, batch: Batch, *, atomic: bool) -> ImportRecord:
        """Commit one batch and return the record as it is then.

        Raises:
            AlreadyExistsError: IMPORT_CONFLICT, the batch is all there is and a key exists.
            OvertakenError: it is not known what was applied; the record tells.
        """
        policy = record.on_conflict
        while True:
            there = existing_keys(self._store, batch, record)
            if policy is OnConflict.FAIL and atomic and there:
                raise conflict(len(there))
            # A key that came after all were looked at is left as it is, with FAIL too: some rows may be there already.
            puts = applicable(batch, there, policy)
            after = counted_after(record, batch, puts, there)
            if atomic:
                after = replace(after, phase=ImportPhase.DONE)
            conditions = () if policy is OnConflict.OVERWRITE else tuple(Absent(put.key) for put in puts)
            try:
                version = self._ledger.try_save(record, after, puts, conditions)
            except (OvertakenError, PrefixdbError) as failure:
                self._ledger.unless_changed(record, failure)
                continue
            if version:
                return replace(after, row_version=version)
            self._ledger.pause()

    # --- small things ------------------------------------------------------------------------------------------------

    def _fail(self, record: ImportRecord, failure: PrefixdbError) -> None:
        """Write down that the import has failed."""
        if failure.reason is Reason.IMPORT_CONFLICT:
            record = replace(record, skipped=int(failure.metadata["rows"]))
        else:
            # The archive was right when it came, so the server's own disk has changed it since.
            _log.error("an import of namespace %d met damage on the disk", self._target.namespace_id)
            failure = error(Reason.CORRUPTION)
        self._ledger.save(record, record.failed(failure))

    def _pages(self) -> Iterator[Rows | ScannedRows]:
        for content in contents_of(self._path, self._store.rows_scanner):
            if isinstance(content, Rows | ScannedRows):
                yield content


def _counted(record: ImportRecord, rows: int, written: int) -> ImportRecord:
    """Return the record once so many rows have been looked at, and so many are new; the others had outlived
    themselves."""
    return replace(
        record,
        position=record.position + rows,
        inserted=record.inserted + written,
        expired=record.expired + rows - written,
    )


def counted_again(record: ImportRecord, rows: int) -> ImportRecord:
    """Return the record when so many rows that were counted as new will meet one of the same archive."""
    overwrites = record.on_conflict is OnConflict.OVERWRITE
    return replace(
        record,
        inserted=record.inserted - rows,
        replaced=record.replaced + (rows if overwrites else 0),
        skipped=record.skipped + (0 if overwrites else rows),
    )


def is_atomic(record: ImportRecord) -> bool:
    """Return whether the rows of an import are one commit."""
    return record.rows <= ATOMIC_ROWS and record.row_bytes <= ATOMIC_BYTES


def counted_after(record: ImportRecord, batch: Batch, puts: Sequence[Put], there: frozenset[RowKey]) -> ImportRecord:
    """Return the record once ``puts``, what applies of a batch, are in the store; ``there`` are keys that existed."""
    repeated = batch.repeated if record.on_conflict is OnConflict.OVERWRITE else 0
    written = len(puts) + repeated
    replaced = repeated + (sum(put.key in there for put in puts) if there else 0)
    return replace(
        record,
        position=record.position + batch.rows,
        inserted=record.inserted + written - replaced,
        replaced=record.replaced + replaced,
        skipped=record.skipped + batch.rows - batch.expired - written,
        expired=record.expired + batch.expired,
    )
