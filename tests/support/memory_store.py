"""A store in a plain dict: the model other stores are compared with, and a fast double for the layers above.

It shares no code with the real stores: no stored form, no planner, no iterator. Whatever they compute with sequence
numbers, overlays and tombstones happens here by changing a dict and sorting its keys.
"""

from __future__ import annotations

import ast
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError
from prefixdb.keycodec import RowKey, Span, namespace_of, namespace_span
from prefixdb.limits import NAMESPACE_ID_MAX
from prefixdb.store.base import (
    Absent,
    Commit,
    CommitResult,
    Condition,
    Delete,
    DeleteSpan,
    Dropped,
    Emptiness,
    Exists,
    Put,
    ReclaimProgress,
    Row,
    SpanSize,
    StoreStatus,
    VersionIs,
)


@dataclass
class _Cell:
    payload: bytes
    version: int
    expires_at_ms: int


class MemoryStore:
    """Rows in a dict. Loses everything at ``close`` unless :meth:`checkpoint` was called.

    ``fail_commits_with`` makes every following commit raise that error, for tests of the layers above. ``published``
    are the bans that were published; :meth:`compact` drops their rows, as a store with a compaction filter would.
    """

    rows_scanner = None

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cells: dict[bytes, _Cell] = {}
        self._version = 0
        self._lock = threading.RLock()
        self._closed = False
        self._cursors: list[MemoryCursor] = []
        self._snapshots: list[MemorySnapshot] = []
        self.fail_commits_with: PrefixdbError | None = None
        self.published: set[int] = set()
        self._dropped: dict[int, Dropped] = {}

    @classmethod
    def restore(cls, target: Path, clock: Clock) -> MemoryStore:
        """Open what :meth:`checkpoint` wrote."""
        store = cls(clock)
        version, cells = ast.literal_eval((target / "rows.txt").read_text(encoding="ascii"))
        store._version = version
        store._cells = {key: _Cell(*cell) for key, cell in cells.items()}
        return store

    def get(self, key: RowKey) -> Row | None:
        with self._lock:
            self._check_open()
            return self._live(key)

    def get_many(self, keys: Sequence[RowKey]) -> list[Row | None]:
        with self._lock:
            self._check_open()
            return [self._live(key) for key in keys]

    def open_cursor(
        self,
        span: Span,
        *,
        reverse: bool = False,
        keys_only: bool = False,
        raw: bool = False,
        one_instant: bool = False,
    ) -> MemoryCursor:
        with self._lock:
            self._check_open()
            now_ms = self._clock.now_ms()
            rows = []
            for key in sorted(self._cells, reverse=reverse):
                cell = self._cells[key]
                if span.begin <= key < span.end and (raw or not 0 < cell.expires_at_ms <= now_ms):
                    rows.append(Row(RowKey(key), b"" if keys_only else cell.payload, cell.version, cell.expires_at_ms))
            cursor = MemoryCursor(rows, None if raw or one_instant else self._clock)
            self._cursors.append(cursor)
            return cursor

    def commit_many(self, commits: Sequence[Commit]) -> list[CommitResult]:
        with self._lock:
            self._check_open()
            if self.fail_commits_with is not None:
                raise self.fail_commits_with
            if not any(isinstance(each, Put) and each.version for commit in commits for each in commit.mutations):
                return [self._apply(commit) for commit in commits]
            before = self._version, self._cells.copy()
            try:
                return [self._apply(commit) for commit in commits]
            except ValueError:
                self._version, self._cells = before
                raise

    def commit(self, commit: Commit) -> CommitResult:
        return self.commit_many([commit])[0]

    def span_size(
        self, span: Span, *, exact_rows_max: int = 1_000, stop: Callable[[], bool] = lambda: False
    ) -> SpanSize:
        with self._lock:
            self._check_open()
            inside = [(key, cell) for key, cell in self._cells.items() if span.begin <= key < span.end]
            return SpanSize(sum(len(key) + len(cell.payload) for key, cell in inside), len(inside))

    def publish_bans(self, namespace_ids: Collection[int]) -> None:
        with self._lock:
            self._check_open()
            for namespace_id in namespace_ids:
                if not 1 <= namespace_id <= NAMESPACE_ID_MAX:
                    raise ValueError("a namespace that is never banned")
            self.published.update(namespace_ids)

    def withdraw_bans(self, namespace_ids: Collection[int]) -> None:
        with self._lock:
            self._check_open()
            self.published.difference_update(namespace_ids)
            for namespace_id in namespace_ids:
                self._dropped.pop(namespace_id, None)

    def dropped(self, namespace_id: int) -> Dropped:
        return self._dropped.get(namespace_id, Dropped(0, 0))

    def reclaim(
        self,
        namespace_ids: Sequence[int],
        *,
        on_progress: Callable[[int, ReclaimProgress], None],
        stop: Callable[[], bool],
    ) -> None:
        with self._lock:
            self._check_open()
            if not self.published.issuperset(namespace_ids):
                raise ValueError("a namespace was not published")
        for namespace_id in namespace_ids:
            size = self.span_size(namespace_span(namespace_id)).bytes
            on_progress(namespace_id, ReclaimProgress(size))
            if stop():
                return
            self._drop({namespace_id})
            on_progress(namespace_id, ReclaimProgress(size, size, "done"))

    def prove_empty(self, span: Span) -> Emptiness:
        size = self.span_size(span)
        pinned = [str(each.path) for each in self._snapshots if any(span.begin <= key < span.end for key in each.keys)]
        return Emptiness(min(size.rows, 1), size.bytes, tuple(pinned))

    def sweep_expired(self, after: RowKey, max_rows: int) -> RowKey:
        with self._lock:
            self._check_open()
            now_ms = self._clock.now_ms()
            keys = sorted(key for key in self._cells if key >= after)
            for key in keys[:max_rows]:
                if 0 < self._cells[key].expires_at_ms <= now_ms:
                    del self._cells[key]
            return RowKey(keys[max_rows]) if len(keys) > max_rows else RowKey(b"")

    def new_committer(self) -> MemoryCommitter:
        return MemoryCommitter(self)

    def open_ingest(self, span: Span) -> MemoryIngest | None:
        self._check_open()
        return MemoryIngest(self, span)

    def compact(self, span: Span | None = None) -> None:
        self._check_open()
        self._drop(self.published, span)

    def flush(self) -> None:
        self._check_open()

    def checkpoint(self, target: Path) -> None:
        with self._lock:
            self._check_open()
            target.mkdir()
            cells = {key: (cell.payload, cell.version, cell.expires_at_ms) for key, cell in self._cells.items()}
            (target / "rows.txt").write_text(ascii((self._version, cells)), encoding="ascii")

    def open_snapshot(self) -> MemorySnapshot:
        with self._lock:
            target = Path(tempfile.mkdtemp(prefix="prefixdb-memory-")) / "snapshot"
            self.checkpoint(target)
            snapshot = MemorySnapshot(target, self._version, self._snapshots, frozenset(self._cells))
            self._snapshots.append(snapshot)
            return snapshot

    def status(self) -> StoreStatus:
        with self._lock:
            self._check_open()
            size = sum(len(key) + len(cell.payload) for key, cell in self._cells.items())
            return StoreStatus("memory", "dict", "none", True, self._version, 0, size, len(self._cells))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for cursor in self._cursors:
                cursor.close()
            for snapshot in list(self._snapshots):
                snapshot.close()

    def _drop(self, namespace_ids: set[int], span: Span | None = None) -> None:
        """Drop the rows of namespaces, of the span when there is one, and count them."""
        with self._lock:
            doomed = [
                key
                for key in self._cells
                if namespace_of(RowKey(key)) in namespace_ids and (span is None or span.begin <= key < span.end)
            ]
            for key in doomed:
                cell = self._cells.pop(key)
                namespace_id = namespace_of(RowKey(key))
                rows, size = self.dropped(namespace_id)
                self._dropped[namespace_id] = Dropped(rows + 1, size + len(key) + len(cell.payload))

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the store is closed")

    def _live(self, key: bytes) -> Row | None:
        cell = self._cells.get(key)
        if cell is None or 0 < cell.expires_at_ms <= self._clock.now_ms():
            return None
        return Row(RowKey(key), cell.payload, cell.version, cell.expires_at_ms)

    def _holds(self, condition: Condition) -> tuple[bool, int]:
        row = self._live(condition.key)
        found = row.version if row else 0
        if isinstance(condition, VersionIs):
            return row is not None and row.version == condition.version, found
        if isinstance(condition, Absent):
            return row is None, found
        if isinstance(condition, Exists):
            return row is not None, found
        return row is not None and row.payload == condition.payload, found

    def _apply(self, commit: Commit) -> CommitResult:
        for index, guard in enumerate(commit.guards):
            holds, found = self._holds(guard)
            if not holds:
                return CommitResult(False, failed_guard=index, current_version=found)
        for index, condition in enumerate(commit.conditions):
            holds, found = self._holds(condition)
            if not holds:
                return CommitResult(False, failed_condition=index, current_version=found)
        counting = [
            each for each in commit.mutations if not (isinstance(each, DeleteSpan) and each.span.begin == each.span.end)
        ]
        if not counting:
            return CommitResult(True)
        self._version += len(counting)
        for mutation in counting:
            if isinstance(mutation, Put):
                version = mutation.version or self._version
                if not 0 < version <= self._version - bool(mutation.version):
                    raise ValueError("a version of no earlier commit")
                self._cells[mutation.key] = _Cell(mutation.payload, version, mutation.expires_at_ms)
            elif isinstance(mutation, Delete):
                self._cells.pop(mutation.key, None)
            else:
                for key in [key for key in self._cells if mutation.span.begin <= key < mutation.span.end]:
                    del self._cells[key]
        return CommitResult(True, self._version)


class MemoryCommitter:
    """Commits at once, each call a batch of its own."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._closed = False

    async def commit(self, commit: Commit) -> CommitResult:
        return (await self.commit_all([commit]))[0]

    async def commit_all(self, commits: Sequence[Commit]) -> list[CommitResult]:
        if self._closed:
            raise RuntimeError("the committer is closed")
        return self._store.commit_many(commits) if commits else []

    async def close(self) -> None:
        self._closed = True


@dataclass(eq=False)
class MemorySnapshot:
    """A checkpoint in a temporary directory; ``keys`` are those of all its rows."""

    path: Path
    last_version: int
    others: list[MemorySnapshot]
    keys: frozenset[bytes]

    def close(self) -> None:
        if self in self.others:
            self.others.remove(self)
            shutil.rmtree(self.path.parent)


class MemoryIngest:
    """Keeps what was added until it becomes one commit."""

    def __init__(self, store: MemoryStore, span: Span) -> None:
        self._store = store
        self._span = span
        self._rows: list[Put] = []
        self._ended = False

    def add(self, rows: Sequence[Put]) -> None:
        if self._ended:
            raise RuntimeError("the ingest has ended")
        last = self._rows[-1].key if self._rows else b""
        for row in rows:
            if not (self._span.begin <= row.key < self._span.end and row.key > last):
                raise ValueError("a key outside the span or out of order")
            last = row.key
        self._rows += rows

    def add_frame(self, frame: object, **_: object) -> None:
        """Only ``add`` takes rows here."""

    def finish(self, guards: Sequence[Condition] = (), *, marker: Put | None = None) -> CommitResult | None:
        if self._ended:
            raise RuntimeError("the ingest has ended")
        self._ended = True
        rows = (*self._rows, marker) if marker is not None else tuple(self._rows)
        cursor = self._store.open_cursor(self._span, raw=True)
        try:
            taken = cursor.fetch(1, 1)
        finally:
            cursor.close()
        return None if taken else self._store.commit(Commit(rows, guards=tuple(guards)))

    def abort(self) -> None:
        self._ended = True
        self._rows = []


class MemoryCursor:
    """A walk over rows that were copied when it was opened; rows that expire on the way are skipped."""

    def __init__(self, rows: list[Row], clock: Clock | None) -> None:
        self._rows = rows
        self._clock = clock
        self._next = 0
        self._closed = False

    def fetch(self, max_rows: int, max_bytes: int) -> list[Row]:
        if max_rows < 1:
            raise ValueError("max_rows must be at least 1")
        page: list[Row] = []
        size = 0
        while (row := self._advance()) is not None:
            page.append(row)
            size += len(row.key) + len(row.payload)
            if len(page) >= max_rows or size >= max_bytes:
                break
        return page

    def count(self, max_rows: int) -> int:
        counted = 0
        while counted < max_rows and self._advance() is not None:
            counted += 1
        return counted

    def close(self) -> None:
        self._closed = True
        self._rows = []

    def _advance(self) -> Row | None:
        if self._closed:
            raise RuntimeError("the cursor is closed")
        while self._next < len(self._rows):
            row = self._rows[self._next]
            self._next += 1
            if self._clock is None or not 0 < row.expires_at_ms <= self._clock.now_ms():
                return row
        return None
