"""Loading sorted rows into an empty span by files: past the log and the memtable, and not compacted again.

The version of rows that bring none is reserved first, by an ordinary commit that rewrites the store's creation row: a
number nobody else can have, on disk before the first file. Files are written in a folder of the data directory, so that
bringing them in is a rename, and become visible together, between two batches of other writers. Whatever is cut off
leaves files in that folder only; the next opening removes it.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from prefixdb.archive.scanned import ScannedRows
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import Span
from prefixdb.limits import MIB
from prefixdb.store.base import Commit, CommitResult, Condition, Cursor, Put
from prefixdb.store.directory import INGEST_NAME
from prefixdb.store.engine import TableWriter
from prefixdb.store.faults import Doing, disk_full, is_no_space, translate, translated
from prefixdb.store.opening import CREATION_KEY
from prefixdb.store.version_rule import VersionRule

FILE_BYTES = 64 * MIB
"""Keys and payloads of one file, the size compactions aim at: smaller ones would be merged, larger ones moved whole."""

_numbers = itertools.count(1)


class IngestStore(Protocol):
    """What an ingest needs of its store."""

    def commit(self, commit: Commit) -> CommitResult: ...
    def open_cursor(
        self, span: Span, *, reverse: bool = False, keys_only: bool = False, raw: bool = False
    ) -> Cursor: ...
    def table_writer(self, path: Path) -> TableWriter: ...
    def ingest(
        self, paths: Sequence[str], span: Span, guards: Sequence[Condition], marker: Put | None
    ) -> CommitResult | None: ...


class FileIngest:
    """``prefixdb.store.base.Ingest`` by sorted files. Not thread-safe."""

    def __init__(self, store: IngestStore, data_dir: Path, span: Span) -> None:
        self._store = store
        self._span = span
        self._version = store.commit(Commit((Put(CREATION_KEY, b""),))).version
        self._folder = data_dir / INGEST_NAME / f"{self._version}-{next(_numbers)}"
        self._paths: list[str] = []
        self._writer: TableWriter | None = None
        self._file_bytes = 0
        self._last_key = b""
        self._sealed = False
        self._ended = False
        try:
            self._folder.mkdir(mode=0o700, parents=True)
        except OSError as failure:
            raise (disk_full() if is_no_space(failure) else error(Reason.READ_ONLY_STORE)) from failure

    def add(self, rows: Sequence[Put]) -> None:
        self._check_adding()
        last = self._last_key
        for row in rows:
            # The first key may be the span's very begin, so "above the last" begins after the first row.
            if not self._span.begin <= row.key < self._span.end or (last and row.key <= last):
                raise ValueError("a key outside the span or not above the one before")
            if not 0 <= row.version < self._version:
                raise ValueError("a version of no earlier commit")
            last = row.key
        with translated(Doing.MAINTAIN):
            for chunk in _chunks(rows):
                self._add(chunk)
        self._last_key = last

    def add_frame(self, frame: ScannedRows, *, namespace_id: int, now_ms: int, versions: VersionRule) -> int | None:
        self._check_adding()
        with translated(Doing.MAINTAIN):
            writer = self._file()
        span = (self._span.begin, self._span.end)
        try:
            added = writer.add_frame(
                frame.content,
                namespace_id=namespace_id,
                span=span,
                after=self._last_key,
                version=self._version,
                now_ms=now_ms,
                versions=versions.columns,
            )
        except ValueError:
            raise  # The rows are wrong, not the disk.
        except Exception as failure:
            raise translate(failure, Doing.MAINTAIN) from failure
        if added is None:
            return None
        rows, size, self._last_key = added
        with translated(Doing.MAINTAIN):
            self._grow(size)
        return rows

    def finish(self, guards: Sequence[Condition] = (), *, marker: Put | None = None) -> CommitResult | None:
        self._check_open()
        self._ended = True
        try:
            with translated(Doing.MAINTAIN):
                self._seal(marker)
            if self._paths:
                result = self._store.ingest(self._paths, self._span, guards, marker)
                return result._replace(version=self._version) if result is not None and result.applied else result
            return None if self._has_rows() else self._store.commit(Commit(guards=tuple(guards)))
        except PrefixdbError as failure:
            # Nothing was tried: the files are as good as before, and may have taken hours to write.
            self._ended = failure.reason is not Reason.WRITE_STALL
            raise
        finally:
            if self._ended:
                self._clear()

    def abort(self) -> None:
        self._ended = True
        self._clear()

    def _check_open(self) -> None:
        if self._ended:
            raise RuntimeError("the ingest has ended")

    def _check_adding(self) -> None:
        self._check_open()
        if self._sealed:
            raise RuntimeError("the ingest is being finished")

    def _seal(self, marker: Put | None) -> None:
        """End the last file and add the marker; once, however often ``finish`` is tried."""
        if self._sealed:
            return
        self._end_file()
        if marker is not None:  # In a file of its own, for its key lies outside the span.
            self._add((marker,))
            self._end_file()
        self._sealed = True

    def _add(self, rows: Sequence[Put]) -> None:
        self._file().add(rows, self._version)
        self._grow(sum(len(row.key) + len(row.payload) for row in rows))

    def _file(self) -> TableWriter:
        """Return the file that is being written."""
        if self._writer is None:
            path = self._folder / f"{len(self._paths):06d}.sst"
            self._writer = self._store.table_writer(path)
            self._paths.append(str(path))
        return self._writer

    def _grow(self, size: int) -> None:
        self._file_bytes += size
        if self._file_bytes >= FILE_BYTES:
            self._end_file()

    def _end_file(self) -> None:
        if self._writer is None:
            return
        if self._file_bytes:
            self._writer.finish()
        else:  # Every row of its frames had outlived itself, and no table may be without rows.
            self._paths.pop()
        self._writer = None
        self._file_bytes = 0

    def _has_rows(self) -> bool:
        cursor = self._store.open_cursor(self._span, keys_only=True, raw=True)
        try:
            return bool(cursor.fetch(1, 1))
        finally:
            cursor.close()

    def _clear(self) -> None:
        self._writer = None
        shutil.rmtree(self._folder, ignore_errors=True)


def _chunks(rows: Sequence[Put]) -> list[Sequence[Put]]:
    """Cut rows into chunks well below a file's size, so that files end near it."""
    return [rows[first : first + 1_000] for first in range(0, len(rows), 1_000)]
