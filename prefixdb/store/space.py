"""Space: how large a span is, giving it back to the disk, and proving that nothing of it is left.

What an iterator shows is not what the disk holds: rows under a tombstone stay in their files until those are
compacted, and old files stay on disk while an old reader needs them. Reclaiming therefore ends with a compaction of the
whole span, bottommost level included, and remembers which files held the span before; the proof looks for those files,
at the current ones and at the rows. The binding has no call that measures a key range and none that shows rows under
tombstones, so the proof reasons about whole files:

- a current file that lies wholly inside the span counts: even tombstones alone are something of the span;
- a current file shared with neighbours holds nothing of the span when the span reads empty and either a reclaim has
  rewritten every file of the span since the last row was put there, or the file has no deletions under which a row
  could hide.

After a restart the first half of that "either" is not known any more: reclaim again, which is short then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import Span, namespace_of, namespace_span
from prefixdb.limits import MIB
from prefixdb.store.base import Commit, CommitResult, DeleteSpan, Emptiness, Put, ReclaimProgress, SpanSize
from prefixdb.store.cursor import LsmCursor
from prefixdb.store.directory import engine_files
from prefixdb.store.engine import Engine, LiveFile
from prefixdb.store.faults import DISK_RETRY_MS, STALL_RETRY_MS, Doing, translated
from prefixdb.store.slot import EngineSlot

PACE_ROWS = 1_000
"""Rows walked at once while measuring; after so many the walk pauses, so that others get the interpreter's lock."""

PACE_SECONDS = 0.000_5

STEP_BYTES = 512 * MIB
"""Bytes of files one step covers: five to ten seconds of compaction, after which a reclaim can be stopped. Each step
also costs a flush and with it a rewrite of the base level (256 MiB), so much smaller steps would double the work."""

PURGE_SECONDS = 2.0
"""How long a reclaim waits for the engine to delete files nobody needs any more; it does so in the background."""

PASSES_MAX = 4_096
"""Finished reclaims whose files are remembered for the proof."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """A finished reclaim: the names of all files that may have held the span before."""

    files: frozenset[str]


class _Work:
    """One running reclaim: the files that held the span when it began, and every file that has held it since."""

    def __init__(
        self, held: list[LiveFile], on_progress: Callable[[ReclaimProgress], None], stop: Callable[[], bool]
    ) -> None:
        self.held = held
        self.former = {file.name for file in held}
        self.progress = ReclaimProgress(bytes_total=sum(file.size for file in held))
        self.stop = stop
        self._on_progress = on_progress

    def report(self, phase: str) -> None:
        """Tell the caller where the reclaim is."""
        self.progress.phase = phase
        self._on_progress(self.progress)


class SpaceKeeper:
    """Measures, reclaims and proves spans of one store. Thread-safe; one reclaim runs at a time."""

    def __init__(
        self,
        engine_dir: Path,
        slot: EngineSlot,
        commit: Callable[[Commit], CommitResult],
        open_raw: Callable[[Span], LsmCursor],
        range_tombstones: Callable[[], int],
    ) -> None:
        self._engine_dir = engine_dir
        self._slot = slot
        self._commit = commit
        self._open_raw = open_raw
        self._range_tombstones = range_tombstones
        self._passes: dict[int, _Pass] = {}
        self._one_at_a_time = threading.Lock()

    def note_writes(self, commit: Commit) -> None:
        """Forget finished reclaims of namespaces that are written again; called under the commit lock."""
        if self._passes:
            for mutation in commit.mutations:
                if type(mutation) is Put:
                    self._passes.pop(namespace_of(mutation.key), None)

    def size(self, span: Span, exact_rows_max: int, stop: Callable[[], bool]) -> SpanSize:
        """Return what files say about a span; what shares files with neighbours is settled by walking it."""
        if span.is_empty:
            return SpanSize(0, 0)
        walked, walked_bytes = self._walk(span, exact_rows_max, stop)
        files = self._overlapping(span)
        inside = [file for file in files if _is_inside(file, span)]
        inside_rows = sum(max(0, file.entries - file.deletions) for file in inside)
        rows = walked if walked < exact_rows_max else max(walked, inside_rows)
        elsewhere = max(0, rows - inside_rows)
        if not elsewhere:
            return SpanSize(sum(file.size for file in inside), rows)
        # Rows in shared files or in memory: as large as the rows of the shared files are there, but not larger than
        # they are in themselves.
        row_bytes = walked_bytes / walked
        shared_rows = sum(file.entries for file in files) - sum(file.entries for file in inside)
        if shared_rows:
            shared_bytes = sum(file.size for file in files) - sum(file.size for file in inside)
            row_bytes = min(row_bytes, shared_bytes / shared_rows)
        return SpanSize(sum(file.size for file in inside) + round(elsewhere * row_bytes), rows)

    def reclaim(self, span: Span, on_progress: Callable[[ReclaimProgress], None], stop: Callable[[], bool]) -> None:
        """See ``Store.reclaim``."""
        with self._one_at_a_time:
            try:
                self._reclaim(span, on_progress, stop)
            except (PrefixdbError, RuntimeError):
                # Closing the store interrupts the compaction we are in; that is a stop like any other.
                if not stop():
                    raise

    def prove_empty(self, span: Span) -> Emptiness:
        """See ``Store.prove_empty``."""
        if span.is_empty:
            return Emptiness(0, 0)
        rows_found, row_bytes = self._walk(span, 1, lambda: False)
        finished = self._passes.get(_namespace(span))
        with self._slot.use() as engine:
            live = _live_files(engine)
            _, tables, logs = engine_files(self._engine_dir)
            # Each deletion that waits in memory counts as a byte that may hide something.
            hiding = 0 if finished else _memtable_deletes(engine) + self._range_tombstones()
        former = finished.files if finished else frozenset()
        found = row_bytes + hiding
        for file in live:
            if not _overlaps(file, span):
                continue
            may_hide = file.name in former if finished else file.deletions > 0
            if _is_inside(file, span) or may_hide:
                found += file.size
        live_names = {file.name for file in live}
        on_disk = (tables.keys() | logs.keys()) - live_names
        return Emptiness(rows_found, found, tuple(sorted(former & on_disk)))

    def _reclaim(self, span: Span, on_progress: Callable[[ReclaimProgress], None], stop: Callable[[], bool]) -> None:
        self._passes.pop(_namespace(span), None)
        work = _Work(self._overlapping(span), on_progress, stop)
        work.report("deleting")
        if span.is_empty:
            return
        for step in self._steps(span, work.held):
            if stop() or not self._reclaim_step(step, work):
                return
        self._finish(span, work.former)
        work.progress.bytes_done = work.progress.bytes_total
        work.report("done" if self._wait_for_purge(span, stop) else "waiting")

    def _reclaim_step(self, step: Span, work: _Work) -> bool:
        """Delete and rewrite one piece; return false when stopped before it was finished.

        Each piece has a tombstone of its own: one over the whole span would pull every file of it into one compaction.
        """
        work.report("deleting")
        if not self._delete(step, work.stop):
            return False
        work.former |= engine_files(self._engine_dir)[2].keys()

        work.report("flushing")
        with self._slot.use() as engine, translated(Doing.MAINTAIN):
            engine.flush()
        if work.stop():
            return False

        work.report("compacting")
        with self._slot.use() as engine, translated(Doing.MAINTAIN):
            rewritten = {file.name for file in _live_files(engine) if _overlaps(file, step)}
            work.former |= rewritten
            engine.compact(step.begin, step.end)
            live = {file.name for file in _live_files(engine)}
        if rewritten & live:
            # The engine's call reports no failure, so look whether it did anything.
            raise error(Reason.READ_ONLY_STORE, "A compaction did not finish.", retry_after_ms=DISK_RETRY_MS)
        work.progress.bytes_done = sum(file.size for file in work.held if file.name not in live)
        work.report("compacting")
        return True

    def _delete(self, span: Span, stop: Callable[[], bool]) -> bool:
        """Commit the range delete, waiting out write stalls; return false when stopped."""
        pause = threading.Event()
        while not stop():
            try:
                self._commit(Commit((DeleteSpan(span),)))
            except PrefixdbError as refusal:
                if refusal.reason is not Reason.WRITE_STALL:
                    raise
                pause.wait(STALL_RETRY_MS / 1000)
            else:
                return True
        return False

    def _steps(self, span: Span, held: Sequence[LiveFile]) -> list[Span]:
        """Cut the span at file boundaries into pieces of about ``STEP_BYTES``; together they are the whole span."""
        files = sorted(held, key=lambda file: file.first_key)
        cuts = [span.begin]
        gathered = 0
        for file in files:
            if gathered >= STEP_BYTES and file.first_key > cuts[-1]:
                cuts.append(type(span.begin)(file.first_key))
                gathered = 0
            gathered += file.size
        return [Span(begin, end) for begin, end in zip(cuts, [*cuts[1:], span.end], strict=True)]

    def _finish(self, span: Span, former: set[str]) -> None:
        with self._slot.use() as engine:
            live = {file.name for file in _live_files(engine)}
        # Whatever is on disk and not current may be a file that came and went while we worked.
        tables = engine_files(self._engine_dir)[1].keys() - live
        namespace_id = _namespace(span)
        if namespace_id >= 0:
            if len(self._passes) >= PASSES_MAX:
                self._passes.pop(next(iter(self._passes)))
            self._passes[namespace_id] = _Pass(frozenset(former | tables))

    def _wait_for_purge(self, span: Span, stop: Callable[[], bool]) -> bool:
        """Return true when the old files are gone, false when a reader keeps one of them."""
        pause = threading.Event()
        deadline = time.monotonic() + PURGE_SECONDS
        while self.prove_empty(span).files_pinned:
            if stop() or time.monotonic() > deadline:
                return False
            pause.wait(0.01)
        return True

    def _overlapping(self, span: Span) -> list[LiveFile]:
        with self._slot.use() as engine:
            return [file for file in _live_files(engine) if _overlaps(file, span)]

    def _walk(self, span: Span, max_rows: int, stop: Callable[[], bool]) -> tuple[int, int]:
        """Return how many rows the span begins with, expired ones included, up to ``max_rows``, and their bytes."""
        cursor = self._open_raw(span)
        pause = threading.Event()
        rows = size = 0
        try:
            while rows < max_rows and (page := cursor.fetch(min(max_rows - rows, PACE_ROWS), MIB)):
                rows += len(page)
                size += sum(len(row.key) + len(row.payload) for row in page)
                if rows >= PACE_ROWS:
                    if stop():
                        break
                    pause.wait(PACE_SECONDS)
        finally:
            cursor.close()
        return rows, size


def _overlaps(file: LiveFile, span: Span) -> bool:
    # A file that ends with a range tombstone names the tombstone's end, which lies outside it: counted as inside, to be
    # on the safe side.
    return file.first_key < span.end and file.last_key >= span.begin


def _is_inside(file: LiveFile, span: Span) -> bool:
    return span.begin <= file.first_key and file.last_key < span.end


def _namespace(span: Span) -> int:
    """Return the namespace whose whole span this is, or -1."""
    try:
        namespace_id = namespace_of(span.begin)
        return namespace_id if namespace_span(namespace_id) == span else -1
    except ValueError:
        return -1


def _live_files(engine: Engine) -> list[LiveFile]:
    with translated(Doing.READ):
        return engine.live_files()


def _memtable_deletes(engine: Engine) -> int:
    """Return how many deletions of single rows wait in memory; the engine does not count those of ranges."""
    return engine.property_int("rocksdb.num-deletes-active-mem-table") + engine.property_int(
        "rocksdb.num-deletes-imm-mem-tables"
    )
