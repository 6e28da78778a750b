"""Giving the bytes of many namespaces back: the part that is the same whatever drops the rows.

What an iterator shows is not what the disk holds: rows under a tombstone or waiting for a filter stay in their files
until those are compacted, and old files stay on disk while an old reader needs them. A reclaim therefore remembers
every file that may have held a namespace, has all of them rewritten, and waits for the old ones to go. Which of them a
finished reclaim has seen is kept for the proof, in memory: after a restart the proof must do without.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import Span, namespace_of, namespace_span
from prefixdb.limits import MIB
from prefixdb.store.base import Commit, Cursor, Emptiness, Put, ReclaimProgress, SpanSize
from prefixdb.store.directory import engine_files
from prefixdb.store.engine import E, LiveFile
from prefixdb.store.faults import DISK_RETRY_MS, Doing, translated
from prefixdb.store.opening import CREATION_KEY
from prefixdb.store.plan import FileIndex, Step, plan_steps
from prefixdb.store.slot import EngineSlot
from prefixdb.store.snapshots import SnapshotKeeper

PACE_ROWS = 1_000
"""Rows walked at once while measuring; after so many the walk pauses, so that others get the interpreter's lock."""

PACE_SECONDS = 0.000_5

STEP_BYTES = 512 * MIB
"""Bytes of files one step covers: five to ten seconds of compaction, after which a reclaim can be stopped. In the
rocksdict store each step also costs a flush and with it a rewrite of the base level (256 MiB), so much smaller steps
would double the work."""

PURGE_SECONDS = 2.0
"""How long a reclaim waits for the engine to delete files nobody needs any more; it does so in the background."""

PASSES_MAX = 16_384
"""Finished reclaims whose files are remembered for the proof."""

ERRORS_PROPERTY = "rocksdb.background-errors"
"""How many flushes and compactions have failed; the only trace of a failed compaction in one of the bindings."""

Report = Callable[[int, ReclaimProgress], None]
Stop = Callable[[], bool]


class Reclaimed:
    """One namespace of a running reclaim.

    span: what it owns.
    held: the table files that may have held its rows when the reclaim began.
    former: names of every file that may have held its rows since, write-ahead logs included.
    pieces: how many pieces of it are still to be rewritten.
    """

    __slots__ = ("_report", "former", "held", "namespace_id", "pieces", "progress", "span")

    def __init__(self, namespace_id: int, report: Report) -> None:
        self.namespace_id = namespace_id
        self.span = namespace_span(namespace_id)
        self.held: list[LiveFile] = []
        self.former: set[str] = set()
        self.pieces = 0
        self.progress = ReclaimProgress()
        self._report = report

    def begin(self, held: list[LiveFile], logs: Iterable[str]) -> None:
        """Note what may hold rows before anything is dropped."""
        self.held = held
        self.former = {file.name for file in held}.union(logs)
        self.progress.bytes_total = sum(file.size for file in held)

    def advance(self, phase: str, live: set[str] | None = None) -> None:
        """Tell the caller where this namespace is; ``live`` are the names of the files that are still in use."""
        self.progress.phase = phase
        if live is not None:
            self.progress.bytes_done = sum(file.size for file in self.held if file.name not in live)
        self._report(self.namespace_id, self.progress)


class SpaceKeeper(Generic[E]):
    """Reclaims namespaces of one store; a subclass drops rows, measures and proves. Thread-safe.

    Args:
        engine_dir: where the engine's files are.
        slot: the engine.
        open_raw: opens a cursor that hides nothing.
        snapshots: what keeps files of the engine on the disk beside it.
    """

    def __init__(
        self, engine_dir: Path, slot: EngineSlot[E], open_raw: Callable[[Span], Cursor], *, snapshots: SnapshotKeeper
    ) -> None:
        self._engine_dir = engine_dir
        self._slot = slot
        self._open_raw = open_raw
        self._snapshots = snapshots
        self._passes: dict[int, frozenset[str]] = {}
        self._one_at_a_time = threading.Lock()

    # --- what a store does in its own way ----------------------------------------------------------------------------

    pieces_max = 1 << 30
    """Most pieces of one step."""

    def prove_empty(self, span: Span) -> Emptiness:
        """See ``Store.prove_empty``."""
        raise NotImplementedError

    def size(self, span: Span, exact_rows_max: int, stop: Stop) -> SpanSize:
        """See ``Store.span_size``."""
        raise NotImplementedError

    def _drop_files(self, engine: E, spans: Sequence[Span]) -> None:
        """Remove what can go without being read; everything was flushed before."""

    def _is_settled(self, engine: E, span: Span) -> bool:
        """Return whether nothing of the span needs to be rewritten."""
        raise NotImplementedError

    def _drop(self, pieces: Sequence[Span], stop: Stop) -> bool:
        """Make sure that compacting the pieces drops them, or return false when stopped before."""
        raise NotImplementedError

    def _hold_nothing(self, engine: E, files: Sequence[LiveFile], pieces: Sequence[Span]) -> bool:
        """Return whether files that a compaction of the pieces left as they were hold nothing of them."""
        raise NotImplementedError

    # --- reclaiming --------------------------------------------------------------------------------------------------

    def reclaim(self, namespace_ids: Sequence[int], report: Report, stop: Stop) -> None:
        """See ``Store.reclaim``."""
        batch = {namespace_id: Reclaimed(namespace_id, report) for namespace_id in namespace_ids}
        with self._one_at_a_time:
            try:
                self._reclaim(batch, stop)
            except (PrefixdbError, RuntimeError):
                # Closing the store interrupts the compaction we are in; that is a stop like any other.
                if not stop():
                    raise

    def _reclaim(self, batch: dict[int, Reclaimed], stop: Stop) -> None:
        if not batch or stop():
            return
        for namespace_id in batch:
            self._passes.pop(namespace_id, None)
        steps = self._prepare(batch)
        finished = [each for each in batch.values() if not each.pieces]
        self._remember(finished)
        for step in steps:
            if stop():
                break
            work = [batch[namespace_of(piece.begin)] for piece in step.pieces]
            for each in work:
                each.advance("deleting")
            if not self._drop(step.pieces, stop) or not self._rewrite(step, work, finished, stop):
                break
        self._wait_for_purge(finished, stop)

    def _prepare(self, batch: dict[int, Reclaimed]) -> list[Step]:
        """Bring everything into files, note which hold what, drop what goes unread, and plan the rest."""
        # An empty log holds nobody's rows and may stay; one that does not goes with the flush.
        logs = [name for name, size in engine_files(self._engine_dir)[2].items() if size]
        for each in batch.values():
            each.advance("flushing")
        with self._slot.use() as engine, translated(Doing.MAINTAIN):
            # From here on only table files hold rows of the batch: nothing is written into it any more.
            engine.flush()
            index = FileIndex(engine.live_files())
            for each in batch.values():
                each.begin(index.overlapping(each.span), logs)
            self._drop_files(engine, [each.span for each in batch.values()])
            files = engine.live_files()
            live = {file.name for file in files}
            needy = []
            for each in batch.values():
                if self._is_settled(engine, each.span):
                    each.former -= live
                else:
                    needy.append(each.span)
        index = FileIndex(files)
        steps = plan_steps(
            [span for span in needy if index.overlapping(span)],
            index,
            step_bytes=STEP_BYTES,
            pieces_max=self.pieces_max,
        )
        for step in steps:
            for piece in step.pieces:
                batch[namespace_of(piece.begin)].pieces += 1
        for each in batch.values():
            each.advance("deleting", live)
        return steps

    def _rewrite(self, step: Step, work: list[Reclaimed], finished: list[Reclaimed], stop: Stop) -> bool:
        """Compact the ranges of a step; return false when stopped before all were done."""
        waiting = list(zip(step.pieces, work, strict=True))
        for span in step.ranges:
            here = [each for piece, each in waiting if piece.begin in span]
            for each in here:
                each.advance("compacting")
            pieces = [piece for piece in step.pieces if piece.begin in span]
            live = None if stop() else self._compact(span, pieces, here, stop)
            if live is None:
                return False
            done = []
            for each in here:
                each.pieces -= 1
                each.advance("compacting", live)
                if not each.pieces:
                    done.append(each)
            self._remember(done)
            finished += done
        return True

    def _compact(self, span: Span, pieces: Sequence[Span], here: Sequence[Reclaimed], stop: Stop) -> set[str] | None:
        """Rewrite every file that holds something of the pieces in the span, which belong to ``here`` in this order.

        Returns:
            The names of the files in use then, or None when stopped.
        """
        with self._slot.use() as engine, translated(Doing.MAINTAIN):
            index = FileIndex(engine.live_files())
            holding = {file.name: file for piece in pieces for file in index.overlapping(piece)}
            for piece, each in zip(pieces, here, strict=True):
                each.former.update(file.name for file in index.overlapping(piece))
            errors = engine.property_int(ERRORS_PROPERTY)
            if not engine.compact(span.begin, span.end, stop):
                return None
            live = {file.name for file in engine.live_files()}
            kept = [file for file in holding.values() if file.name in live]
            if kept and not self._hold_nothing(engine, kept, pieces):
                # RocksDB passed over files in which the span has no key. A neighbour's range tombstone in one of them
                # may or may not reach into the span: rewrite the file by the keys it has.
                for file in kept:
                    if not engine.compact(file.first_key, file.last_key + b"\0", stop):
                        return None
                live = {file.name for file in engine.live_files()}
                kept = [file for file in kept if file.name in live]
            failed = engine.property_int(ERRORS_PROPERTY) != errors
            # The engine reports no failure for sure, and it leaves a file alone in which it finds nothing of the span.
            if kept and (failed or not self._hold_nothing(engine, kept, pieces)):
                raise error(Reason.READ_ONLY_STORE, "A compaction did not finish.", retry_after_ms=DISK_RETRY_MS)
        for each in here:
            each.former.difference_update(file.name for file in kept)
        return live

    def _remember(self, done: list[Reclaimed]) -> None:
        """Keep, for the proof, which files may have held these namespaces."""
        if not done:
            return
        with self._slot.use() as engine, translated(Doing.READ):
            live = {file.name for file in engine.live_files()}
        # Whatever is on disk and not current may be a file that came and went while we worked.
        passing = engine_files(self._engine_dir)[1].keys() - live
        for each in done:
            if len(self._passes) >= PASSES_MAX:
                self._passes.pop(next(iter(self._passes)))
            each.former |= passing
            self._passes[each.namespace_id] = frozenset(each.former)

    def _wait_for_purge(self, finished: list[Reclaimed], stop: Stop) -> None:
        """Tell of each namespace that it is done, or that readers keep an old file of it."""
        pause = threading.Event()
        deadline = time.monotonic() + PURGE_SECONDS
        while finished:
            obsolete, live = self._obsolete_files()
            waiting = [
                each
                for each in finished
                if not each.former.isdisjoint(obsolete) or self._snapshots.pinning(each.span, live)
            ]
            for each in finished:
                if each not in waiting:
                    each.progress.bytes_done = each.progress.bytes_total
                    each.advance("done")
            finished = waiting
            if stop() or time.monotonic() > deadline:
                break
            if finished:
                pause.wait(0.01)
        for each in finished:
            each.progress.bytes_done = each.progress.bytes_total
            each.advance("waiting")

    def _obsolete_files(self) -> tuple[set[str], set[str]]:
        """Return the files on disk that are not current, logs among them, and those that are."""
        with self._slot.use() as engine, translated(Doing.READ):
            live = {file.name for file in engine.live_files()}
        _, tables, logs = engine_files(self._engine_dir)
        return (tables.keys() | logs.keys()) - live, live

    def note_ingest(self, span: Span, marker: Put | None) -> None:
        """Forget finished reclaims of the namespaces that own the span and the marker; called before they are there."""
        self._passes.pop(namespace_of(span.begin), None)
        if marker is not None:
            self._passes.pop(namespace_of(marker.key), None)

    def note_writes(self, commits: Iterable[Commit]) -> None:
        """Forget finished reclaims of namespaces that are written again; called with each write."""
        if self._passes:
            for commit in commits:
                for mutation in commit.mutations:
                    # The creation row is in front of every namespace and in none.
                    if type(mutation) is Put and mutation.key != CREATION_KEY:
                        self._passes.pop(namespace_of(mutation.key), None)

    # --- measuring ---------------------------------------------------------------------------------------------------

    def _walk(self, span: Span, max_rows: int, stop: Stop) -> tuple[int, int]:
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
