"""A store in a plain dict: the model other stores are compared with, and a fast double for the layers above.

It shares no code with the real stores: no stored form, no planner, no iterator. Whatever they compute with sequence
numbers, overlays and tombstones happens here by changing a dict and sorting its keys.
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError
from prefixdb.keycodec import RowKey, Span
from prefixdb.store.base import (
    Absent,
    Commit,
    CommitResult,
    Condition,
    Delete,
    DeleteSpan,
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

    ``fail_commits_with`` makes every following commit raise that error, for tests of the layers above.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cells: dict[bytes, _Cell] = {}
        self._version = 0
        self._lock = threading.RLock()
        self._closed = False
        self._cursors: list[MemoryCursor] = []
        self.fail_commits_with: PrefixdbError | None = None

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
        self, span: Span, *, reverse: bool = False, keys_only: bool = False, raw: bool = False
    ) -> MemoryCursor:
        with self._lock:
            self._check_open()
            now_ms = self._clock.now_ms()
            rows = []
            for key in sorted(self._cells, reverse=reverse):
                cell = self._cells[key]
                if span.begin <= key < span.end and (raw or not 0 < cell.expires_at_ms <= now_ms):
                    rows.append(Row(RowKey(key), b"" if keys_only else cell.payload, cell.version, cell.expires_at_ms))
            cursor = MemoryCursor(rows, None if raw else self._clock)
            self._cursors.append(cursor)
            return cursor

    def commit_many(self, commits: Sequence[Commit]) -> list[CommitResult]:
        with self._lock:
            self._check_open()
            if self.fail_commits_with is not None:
                raise self.fail_commits_with
            return [self._apply(commit) for commit in commits]

    def commit(self, commit: Commit) -> CommitResult:
        return self.commit_many([commit])[0]

    def span_size(
        self, span: Span, *, exact_rows_max: int = 1_000, stop: Callable[[], bool] = lambda: False
    ) -> SpanSize:
        with self._lock:
            self._check_open()
            inside = [(key, cell) for key, cell in self._cells.items() if span.begin <= key < span.end]
            return SpanSize(sum(len(key) + len(cell.payload) for key, cell in inside), len(inside))

    def reclaim_span(
        self, span: Span, *, on_progress: Callable[[ReclaimProgress], None], stop: Callable[[], bool]
    ) -> None:
        progress = ReclaimProgress(bytes_total=self.span_size(span).bytes)
        on_progress(progress)
        if stop():
            return
        with self._lock:
            for key in [key for key in self._cells if span.begin <= key < span.end]:
                del self._cells[key]
        on_progress(ReclaimProgress(progress.bytes_total, progress.bytes_total, "done"))

    def prove_empty(self, span: Span) -> Emptiness:
        size = self.span_size(span)
        return Emptiness(min(size.rows, 1), size.bytes)

    def sweep_expired(self, after: RowKey, max_rows: int) -> RowKey:
        with self._lock:
            self._check_open()
            now_ms = self._clock.now_ms()
            keys = sorted(key for key in self._cells if key >= after)
            for key in keys[:max_rows]:
                if 0 < self._cells[key].expires_at_ms <= now_ms:
                    del self._cells[key]
            return RowKey(keys[max_rows]) if len(keys) > max_rows else RowKey(b"")

    def compact(self, span: Span | None = None) -> None:
        self._check_open()

    def flush(self) -> None:
        self._check_open()

    def checkpoint(self, target: Path) -> None:
        with self._lock:
            self._check_open()
            target.mkdir()
            cells = {key: (cell.payload, cell.version, cell.expires_at_ms) for key, cell in self._cells.items()}
            (target / "rows.txt").write_text(ascii((self._version, cells)), encoding="ascii")

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
        if all(isinstance(each, DeleteSpan) and each.span.begin == each.span.end for each in commit.mutations):
            return CommitResult(True)
        self._version += 1
        for mutation in commit.mutations:
            if isinstance(mutation, Put):
                self._cells[mutation.key] = _Cell(mutation.payload, self._version, mutation.expires_at_ms)
            elif isinstance(mutation, Delete):
                self._cells.pop(mutation.key, None)
            else:
                for key in [key for key in self._cells if mutation.span.begin <= key < mutation.span.end]:
                    del self._cells[key]
        return CommitResult(True, self._version)


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
