"""Space in the native store: sizes, reclaiming with the compaction filter, proofs that look beneath everything.

No range is deleted here: whatever compaction meets a published namespace drops it. A reclaim flushes, removes the files
that lie wholly inside a namespace without reading them, and compacts what is left of the others. A namespace nothing of
which is stored any more, because ordinary compactions have dropped it, is not rewritten again.

The proof asks the engine for any version of any key, hidden ones included, so it holds after a restart as well. Only
range tombstones have no such call: they are counted for whole files, and a file of a finished reclaim's time holds none
of the namespace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from prefixdb.keycodec import Span
from prefixdb.store.base import Emptiness, SpanSize
from prefixdb.store.directory import engine_files
from prefixdb.store.engine import FilterEngine, LiveFile
from prefixdb.store.faults import Doing, translated
from prefixdb.store.plan import FileIndex, bytes_on_disk, is_inside, may_have_tombstones, namespace_of_span
from prefixdb.store.reclaiming import PACE_ROWS, SpaceKeeper, Stop

F = TypeVar("F", bound=FilterEngine)

COUNT_ROWS = 50_000
"""Rows counted in one call, about 10 ms without the interpreter's lock; a walk can be stopped in between."""


class NativeSpace(SpaceKeeper[F]):
    """See the module's docstring. Thread-safe."""

    def size(self, span: Span, exact_rows_max: int, stop: Stop) -> SpanSize:
        """Count up to ``exact_rows_max`` rows; of more rows the files' own bookkeeping tells."""
        if span.is_empty:
            return SpanSize(0, 0)
        walked, walked_bytes = self._walk(span, min(exact_rows_max, PACE_ROWS), stop)
        row_bytes = walked_bytes / walked if walked else 0.0
        if walked == PACE_ROWS < exact_rows_max:
            walked = self._count(span, exact_rows_max, stop)
        with self._slot.use() as engine, translated(Doing.READ):
            files = FileIndex(engine.live_files()).overlapping(span)
            namespace_id = namespace_of_span(span)
            rows = walked
            if walked >= exact_rows_max and namespace_id >= 0:
                # Overwritten versions count there, so it can be too many, never too few.
                rows = max(walked, engine.namespace_size(namespace_id)[0])
        return SpanSize(bytes_on_disk(files, span, rows, row_bytes), rows)

    def prove_empty(self, span: Span) -> Emptiness:
        """See ``Store.prove_empty``."""
        if span.is_empty:
            return Emptiness(0, 0)
        rows_found, _ = self._walk(span, 1, lambda: False)
        former = self._passes.get(namespace_of_span(span))
        with self._slot.use() as engine, translated(Doing.READ):
            found = _hidden_bytes(engine, FileIndex(engine.live_files()), span, former)
            _, tables, logs = engine_files(self._engine_dir)
            # Current still, so what was just found holds for them; a file that was replaced meanwhile may be another's.
            live = {file.name for file in engine.live_files()}
        obsolete = tables.keys() - live
        # Without a reclaim nobody knows what an old file that a reader keeps has held.
        pinned = obsolete if former is None else former & (obsolete | logs.keys())
        return Emptiness(rows_found, found, (*sorted(pinned), *self._snapshots.pinning(span, live)))

    def _count(self, span: Span, max_rows: int, stop: Stop) -> int:
        cursor = self._open_raw(span)
        counted = 0
        try:
            while counted < max_rows and not stop():
                wanted = min(max_rows - counted, COUNT_ROWS)
                step = cursor.count(wanted)
                counted += step
                if step < wanted:
                    break
        finally:
            cursor.close()
        return counted

    def _drop_files(self, engine: F, spans: Sequence[Span]) -> None:
        engine.delete_files([(span.begin, span.end) for span in spans])

    def _is_settled(self, engine: F, span: Span) -> bool:
        return not engine.has_any_version(span.begin, span.end) and not engine.range_deletes(span.begin, span.end)

    def _hold_nothing(self, engine: F, files: Sequence[LiveFile], pieces: Sequence[Span]) -> bool:
        if any(engine.has_any_version(piece.begin, piece.end) for piece in pieces):
            return False
        return not any(map(may_have_tombstones, files)) or not any(
            engine.range_deletes(piece.begin, piece.end) for piece in pieces
        )

    def _drop(self, pieces: Sequence[Span], stop: Stop) -> bool:
        # They are published: the compaction itself drops them.
        return not stop()


def _hidden_bytes(engine: FilterEngine, files: FileIndex, span: Span, former: frozenset[str] | None) -> int:
    """Return how many bytes of files and memory may still be the span's; 0 only without any doubt."""
    overlapping = files.overlapping(span)
    found = sum(file.size for file in overlapping if is_inside(file, span))
    approximate = engine.approximate_bytes(span.begin, span.end)
    if engine.has_any_version(span.begin, span.end):
        found = max(found, approximate, 1)
    elif not overlapping:
        # In a file shared with neighbours the size of an absent key range can be a block that is all theirs.
        found = max(found, approximate)
    unknown = [file for file in overlapping if may_have_tombstones(file) and (former is None or file.name in former)]
    if unknown and engine.range_deletes(span.begin, span.end):
        found += sum(file.size for file in unknown if not is_inside(file, span))
    if former is None:
        found += engine.unflushed_range_deletes()
    return found
