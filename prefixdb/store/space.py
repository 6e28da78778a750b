"""Space in the rocksdict store: sizes, reclaiming by range deletes, proofs.

The binding has no call that measures a key range, none that shows rows under tombstones and no compaction filter. So a
reclaim deletes ranges and has them compacted, and the proof reasons about whole files:

- a current file that lies wholly inside the span counts: even tombstones alone are something of the span;
- a current file shared with neighbours holds nothing of the span when the span reads empty and either a reclaim has
  rewritten every file of the span since the last row was put there, or the file has no deletions under which a row
  could hide.

After a restart the first half of that "either" is not known any more: reclaim again, which is short then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import Span
from prefixdb.limits import RANGE_TOMBSTONES_MAX
from prefixdb.store.base import Commit, CommitResult, DeleteSpan, Emptiness, SpanSize
from prefixdb.store.cursor import LsmCursor
from prefixdb.store.directory import engine_files
from prefixdb.store.engine import Engine, LiveFile, RowEngine
from prefixdb.store.faults import STALL_RETRY_MS, Doing, translated
from prefixdb.store.plan import FileIndex, bytes_on_disk, is_inside, may_have_tombstones, namespace_of_span, overlaps
from prefixdb.store.reclaiming import SpaceKeeper, Stop
from prefixdb.store.slot import EngineSlot
from prefixdb.store.snapshots import SnapshotKeeper


class LsmSpace(SpaceKeeper[RowEngine]):
    """See the module's docstring. Thread-safe."""

    pieces_max = RANGE_TOMBSTONES_MAX // 2
    """Each piece is a range tombstone, and more of them would slow reads; the flush of each step takes them away."""

    def __init__(
        self,
        engine_dir: Path,
        slot: EngineSlot[RowEngine],
        open_raw: Callable[[Span], LsmCursor],
        commit: Callable[[Commit], CommitResult],
        range_tombstones: Callable[[], int],
        *,
        snapshots: SnapshotKeeper,
    ) -> None:
        super().__init__(engine_dir, slot, open_raw, snapshots=snapshots)
        self._commit = commit
        self._range_tombstones = range_tombstones

    def size(self, span: Span, exact_rows_max: int, stop: Stop) -> SpanSize:
        """Return what files say about a span; what shares files with neighbours is settled by walking it."""
        if span.is_empty:
            return SpanSize(0, 0)
        walked, walked_bytes = self._walk(span, exact_rows_max, stop)
        with self._slot.use() as engine, translated(Doing.READ):
            files = FileIndex(engine.live_files()).overlapping(span)
        inside_rows = sum(max(0, file.entries - file.deletions) for file in files if is_inside(file, span))
        rows = walked if walked < exact_rows_max else max(walked, inside_rows)
        return SpanSize(bytes_on_disk(files, span, rows, walked_bytes / walked if walked else 0.0), rows)

    def prove_empty(self, span: Span) -> Emptiness:
        """See ``Store.prove_empty``."""
        if span.is_empty:
            return Emptiness(0, 0)
        rows_found, row_bytes = self._walk(span, 1, lambda: False)
        former = self._passes.get(namespace_of_span(span))
        with self._slot.use() as engine, translated(Doing.READ):
            live = engine.live_files()
            _, tables, logs = engine_files(self._engine_dir)
            # Each deletion that waits in memory counts as a byte that may hide something.
            hiding = 0 if former is not None else _memtable_deletes(engine) + self._range_tombstones()
        found = row_bytes + hiding
        for file in live:
            if not overlaps(file, span):
                continue
            may_hide = file.name in former if former is not None else may_have_tombstones(file)
            if is_inside(file, span) or may_hide:
                found += file.size
        names = {file.name for file in live}
        pinned = sorted((former or frozenset()) & ((tables.keys() | logs.keys()) - names))
        return Emptiness(rows_found, found, (*pinned, *self._snapshots.pinning(span, names)))

    def _is_settled(self, engine: RowEngine, span: Span) -> bool:
        # A shared file may hide rows of the span under tombstones; nothing but rewriting it settles that.
        return False

    def _drop(self, pieces: Sequence[Span], stop: Stop) -> bool:
        """Commit the range deletes, waiting out write stalls.

        Each step has tombstones of its own: they are flushed into one file, and one that spans everything would pull
        every file of the base level into one compaction.
        """
        pause = threading.Event()
        commit = Commit(tuple(map(DeleteSpan, pieces)))
        while not stop():
            try:
                self._commit(commit)
            except PrefixdbError as refusal:
                if refusal.reason is not Reason.WRITE_STALL:
                    raise
                pause.wait(STALL_RETRY_MS / 1000)
            else:
                with self._slot.use() as engine, translated(Doing.MAINTAIN):
                    engine.flush()
                return True
        return False

    def _hold_nothing(self, engine: RowEngine, files: Sequence[LiveFile], pieces: Sequence[Span]) -> bool:
        # The tombstones of this step lay in a file with deletions: were it still there, nothing would have been done.
        return not any(map(may_have_tombstones, files))


def _memtable_deletes(engine: Engine) -> int:
    """Return how many deletions of single rows wait in memory; the engine does not count those of ranges."""
    return engine.property_int("rocksdb.num-deletes-active-mem-table") + engine.property_int(
        "rocksdb.num-deletes-imm-mem-tables"
    )
