"""Rows that a program has become the frames of an archive, as an upload draws them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from prefixdb.archive import ArchiveWriter, Header, row_batches, scattered_batches
from prefixdb.archive.frames import Fault
from prefixdb.client.encoding import Key, Lifetime, encode_key, encode_value, ttl_to_ms
from prefixdb.client.frame_source import FrameSource
from prefixdb.errors import Reason, error
from prefixdb.limits import KEY_BYTES_MAX, VALUE_BYTES_CEILING

RowInput = tuple[Key, bytes] | tuple[Key, bytes, Lifetime | None]
"""(key, value) or (key, value, ttl)."""

PlainRow = tuple[int, bytes, bytes, int, int]
"""(database, key, value, version, expires_at_ms), as ``archive.row_batches`` takes it."""


def row_frames(rows: Iterable[PlainRow], *, created_at_ms: int, in_order: bool) -> Iterator[bytes]:
    """Yield the frames of an archive of kind "rows". The same rows and time make the same bytes.

    Raises:
        InvalidArgumentError: BAD_FIELD when ``in_order`` and they are not; KEY_EMPTY, KEY_TOO_LARGE, VALUE_TOO_LARGE.
    """
    writer = ArchiveWriter(Header("rows", sorted=in_order, created_at_ms=created_at_ms))
    yield writer.header()
    # Out of order the databases may alternate, which would make a frame of each row.
    for batch in row_batches(rows) if in_order else scattered_batches(rows):
        try:
            frame = writer.rows(batch.database, batch.rows)
        except Fault as fault:
            # A fault is for who reads archives; here it is the caller's rows that are meant.
            raise error(Reason.BAD_FIELD, f"A row cannot be taken: {fault}") from None
        yield frame
    yield writer.footer()


def rows_source(rows: Iterable[RowInput], database: int, *, in_order: bool) -> FrameSource:
    """Return the frames of a program's rows; they can be drawn once."""
    now_ms = time.time_ns() // 1_000_000
    checked = (_plain(row, database, now_ms) for row in rows)
    return FrameSource(lambda: row_frames(checked, created_at_ms=now_ms, in_order=in_order), again=False)


def _plain(row: RowInput, database: int, now_ms: int) -> PlainRow:
    key, value = encode_key(row[0]), encode_value(row[1])
    check_row(key, value)
    ttl_ms = ttl_to_ms(row[2]) if len(row) == 3 else 0
    return database, key, value, 0, now_ms + ttl_ms if ttl_ms else 0


def check_row(key: bytes, value: bytes) -> None:
    """Refuse a row that no server takes, whatever its configuration.

    Raises:
        InvalidArgumentError: KEY_EMPTY, KEY_TOO_LARGE, VALUE_TOO_LARGE.
    """
    if not key:
        raise error(Reason.KEY_EMPTY)
    if len(key) > KEY_BYTES_MAX:
        raise error(Reason.KEY_TOO_LARGE, f"A key has {len(key)} bytes; the limit is {KEY_BYTES_MAX}.")
    if len(value) > VALUE_BYTES_CEILING:
        raise error(Reason.VALUE_TOO_LARGE, f"A value has {len(value)} bytes; the limit is {VALUE_BYTES_CEILING}.")
