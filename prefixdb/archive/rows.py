"""Rows as archives have them, many at a time.

    rows := [database, [[key bin, value bin, version, expires_at_ms], ...]]

A row here is a plain tuple ``(key, value, version, expires_at_ms)``, the key as its owner sees it, expires_at_ms 0 for
a row without a lifetime. There may be a hundred million of them, so nothing is done row by row: whole columns are
checked by functions that loop in C.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import lt
from typing import Any, NamedTuple

import msgpack

from prefixdb.archive.frames import Fault
from prefixdb.limits import (
    ARCHIVE_FRAME_BYTES_MAX,
    ARCHIVE_FRAME_ROWS_MAX,
    ARCHIVE_ROW_BYTES_CEILING,
    DATABASE_MAX,
    KEY_BYTES_MAX,
    VALUE_BYTES_CEILING,
)

__all__ = [
    "EXPIRES_AT_MS_MAX",
    "FRAME_HEAD_BYTES",
    "ArchiveRow",
    "PackedRows",
    "Rows",
    "check_packed",
    "check_rows",
    "check_size",
    "decode_rows",
    "encode_rows",
    "row_batches",
    "scattered_batches",
]

EXPIRES_AT_MS_MAX = 2**63 - 1
"""Latest end of a row's lifetime."""

ROW_HEAD_BYTES = 29
"""Most bytes of a row apart from its key and its value: a list, two lengths, two numbers."""

FRAME_HEAD_BYTES = 9
"""Most bytes of a frame's content apart from its rows."""

SCATTERED_BYTES_MAX = 8 * ARCHIVE_FRAME_BYTES_MAX
"""Rows that are gathered by database, in bytes: enough for every database to have some."""

ArchiveRow = tuple[bytes, bytes, int, int]
"""(key, value, version, expires_at_ms)"""


class Rows(NamedTuple):
    """Content of a frame of rows: rows of one database, at least one."""

    database: int
    rows: Sequence[ArchiveRow]

    def __repr__(self) -> str:
        return f"Rows(database={self.database}, rows={len(self.rows)} of them)"


class PackedRows(NamedTuple):
    """Content of a frame of rows that was made elsewhere, from one walk over ascending keys, and what is known of it.

    Whoever made it has compared each key with the one before it.

    longest_key, longest_value: in bytes.
    latest_end_ms: the greatest expires_at_ms.
    """

    content: bytes
    rows: int
    database: int
    first_key: bytes
    last_key: bytes
    longest_key: int
    longest_value: int
    least_version: int
    greatest_version: int
    latest_end_ms: int

    def __repr__(self) -> str:
        return f"PackedRows(database={self.database}, rows={self.rows})"


def encode_rows(database: int, rows: Sequence[ArchiveRow]) -> bytes:
    """Return the content of a frame of rows; see ``row_batches``.

    Raises:
        Fault: there are more of them than a frame may have.
    """
    content: bytes = msgpack.packb((database, rows), use_bin_type=True)
    check_size(content, len(rows))
    return content


def decode_rows(content: bytes) -> Rows:
    """Return the rows of a frame; what they hold is for ``check_rows`` to see, only their shape is checked here.

    Memory: up to about 64 times a hostile content of 1 MiB; a larger one may only be a single row and takes its own
    size.

    Raises:
        Fault: they are not rows.
    """
    large = len(content) > ARCHIVE_FRAME_BYTES_MAX
    try:
        value = _unpack_single(content) if large else _unpack(content)
    except (ValueError, msgpack.UnpackException):
        # `from None`: what a decoder says of bytes may quote them.
        raise Fault("The content is not what a frame of rows has.") from None
    if type(value) is not tuple or len(value) != 2 or type(value[0]) is not int or type(value[1]) is not tuple:
        raise Fault("The content is not a database and a list of rows.")
    database, rows = value
    if not 0 <= database <= DATABASE_MAX:
        raise Fault("The rows are in a database of an impossible number.")
    check_size(content, len(rows))
    if set(map(type, rows)) != {tuple} or set(map(len, rows)) != {4}:
        raise Fault("A row is not a list of four.")
    return Rows(database, rows)


def check_rows(rows: Sequence[ArchiveRow], versions: tuple[int, int], *, after: bytes | None) -> int:
    """Check types, lengths, ranges and order of rows; returns the greatest version.

    Args:
        rows: of one database, at least one.
        versions: least and greatest allowed.
        after: None when the rows may be in any order; else keys must ascend strictly, and be greater than it.

    Raises:
        Fault: of what kind the first fault found is.
    """
    # Four passes over the rows cost less than half of zip(*rows), which makes an iterator for each of them.
    keys = [row[0] for row in rows]
    values = [row[1] for row in rows]
    row_versions = [row[2] for row in rows]
    expiries = [row[3] for row in rows]
    if set(map(type, keys)) != {bytes} or set(map(type, values)) != {bytes}:
        raise Fault("A key or a value is not binary.")
    if set(map(type, row_versions)) != {int} or set(map(type, expiries)) != {int}:
        raise Fault("A version or an end of life is not a whole number.")
    lengths = set(map(len, keys))
    if 0 in lengths or max(lengths) > KEY_BYTES_MAX:
        raise Fault("A key is empty or longer than a key may be.")
    if max(map(len, values)) > VALUE_BYTES_CEILING:
        raise Fault("A value is longer than a value may be.")
    greatest: int = max(row_versions)
    if min(row_versions) < versions[0] or greatest > versions[1]:
        raise Fault("A version is out of the range that the header allows.")
    if min(expiries) < 0 or max(expiries) > EXPIRES_AT_MS_MAX:
        raise Fault("An end of life is out of its range.")
    if after is not None and (keys[0] <= after or not all(map(lt, keys, keys[1:]))):
        raise Fault("The rows are not in order, or one of them stands twice.")
    return greatest


def check_packed(packed: PackedRows, versions: tuple[int, int], *, after: bytes) -> None:
    """Check of rows that were packed elsewhere what ``encode_rows`` and ``check_rows`` check of others.

    Args:
        packed: its keys ascend.
        versions: least and greatest allowed.
        after: the first key must be greater than it.

    Raises:
        Fault: of what kind the first fault found is.
    """
    check_size(packed.content, packed.rows)
    if not packed.first_key or packed.longest_key > KEY_BYTES_MAX:
        raise Fault("A key is empty or longer than a key may be.")
    if packed.longest_value > VALUE_BYTES_CEILING:
        raise Fault("A value is longer than a value may be.")
    if packed.least_version < versions[0] or packed.greatest_version > versions[1]:
        raise Fault("A version is out of the range that the header allows.")
    if packed.latest_end_ms > EXPIRES_AT_MS_MAX:
        raise Fault("An end of life is out of its range.")
    if not after < packed.first_key <= packed.last_key:
        raise Fault("The rows are not in order, or one of them stands twice.")


def scattered_batches(rows: Iterable[tuple[int, bytes, bytes, int, int]]) -> Iterator[Rows]:
    """Like ``row_batches`` for rows whose databases alternate: only rows of one database keep their order.

    Memory: ``SCATTERED_BYTES_MAX`` of rows that wait for others of their database.
    """
    waiting: dict[int, list[tuple[int, bytes, bytes, int, int]]] = {}
    held = 0
    for row in rows:
        waiting.setdefault(row[0], []).append(row)
        held += len(row[1]) + len(row[2]) + ROW_HEAD_BYTES
        if held > SCATTERED_BYTES_MAX:
            for group in waiting.values():
                yield from row_batches(group)
            waiting, held = {}, 0
    for group in waiting.values():
        yield from row_batches(group)


def row_batches(rows: Iterable[tuple[int, bytes, bytes, int, int]]) -> Iterator[Rows]:
    """Yield (database, key, value, version, expires_at_ms) in lists of which each fits one frame, in the same order."""
    batch: list[ArchiveRow] = []
    current, held = 0, FRAME_HEAD_BYTES
    for database, key, value, version, expires_at_ms in rows:
        size = len(key) + len(value) + ROW_HEAD_BYTES
        if batch and (
            database != current or held + size > ARCHIVE_FRAME_BYTES_MAX or len(batch) == ARCHIVE_FRAME_ROWS_MAX
        ):
            yield Rows(current, batch)
            batch, held = [], FRAME_HEAD_BYTES
        current = database
        batch.append((key, value, version, expires_at_ms))
        held += size
    if batch:
        yield Rows(current, batch)


def check_size(content: bytes, rows: int) -> None:
    """Raise Fault unless a frame may have so much content of so many rows."""
    if not 0 < rows <= ARCHIVE_FRAME_ROWS_MAX:
        raise Fault("A frame has no rows, or more than a frame may have.")
    if len(content) > (ARCHIVE_FRAME_BYTES_MAX if rows > 1 else ARCHIVE_ROW_BYTES_CEILING):
        raise Fault("A frame has more content than a frame may have.")


def _unpack(content: bytes) -> Any:
    return msgpack.unpackb(
        content,
        raw=False,
        use_list=False,
        object_hook=_refuse,
        max_array_len=ARCHIVE_FRAME_ROWS_MAX,
        max_map_len=0,
        max_ext_len=0,
    )


def _unpack_single(content: bytes) -> Any:
    """Unpack what must be a frame of one row: three lists and nothing else that could unfold."""
    lists = 0

    def count(value: list[Any]) -> tuple[Any, ...]:
        nonlocal lists
        lists += 1
        if lists > 3:
            raise ValueError("more than one row")
        return tuple(value)

    return msgpack.unpackb(
        content, raw=False, list_hook=count, object_hook=_refuse, max_array_len=4, max_map_len=0, max_ext_len=0
    )


def _refuse(_: object) -> object:
    raise ValueError("a map among rows")
