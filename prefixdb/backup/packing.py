"""Rows of a walk as the frames of an archive: by the store itself where it can, else fetched and packed here.

Both ways cut at the same rows, so they make the same bytes: as many rows as fit a frame, of one database each. Both
compare every key with what the archive's rows have to begin with, after the cursor compared it with its span.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby

from prefixdb.archive import ArchiveRow, ArchiveWriter, Rows
from prefixdb.archive.rows import FRAME_HEAD_BYTES, ROW_HEAD_BYTES
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import DATA_HEAD_BYTES
from prefixdb.limits import ARCHIVE_FRAME_BYTES_MAX, ARCHIVE_FRAME_ROWS_MAX
from prefixdb.store.base import Cursor, PackingCursor, Row

__all__ = ["foreign", "gathered", "row_frames"]

_DATABASE_AT = DATA_HEAD_BYTES - 2


def row_frames(
    writer: ArchiveWriter, cursor: Cursor, head: bytes, fetched: Sequence[Row] = ()
) -> Iterator[tuple[bytes, int]]:
    """Yield a frame and how many rows it has, to the end of the walk.

    Args:
        writer: makes the frames.
        cursor: where to go on; only rows of the family DATA are left in it.
        head: what every row key has to begin with.
        fetched: rows that came out of the cursor already; they have frames of their own.

    Raises:
        DataLossError: CORRUPTION, at the point of damage.
        InternalError: a key does not begin with ``head``.
    """
    for database, rows in gathered([fetched] if fetched else [], head):
        yield writer.rows(database, rows), len(rows)
    if isinstance(cursor, PackingCursor):
        room = ARCHIVE_FRAME_BYTES_MAX - FRAME_HEAD_BYTES
        while (packed := cursor.pack(head, ARCHIVE_FRAME_ROWS_MAX, room)) is not None:
            yield writer.packed(packed), packed.rows
        return
    for database, rows in gathered(_pages(cursor), head):
        yield writer.rows(database, rows), len(rows)


def gathered(pages: Iterable[Sequence[Row]], head: bytes) -> Iterator[Rows]:
    """Yield the rows of pages cut as ``prefixdb.archive.row_batches`` cuts them, but a page at a time.

    Raises:
        InternalError: a key does not begin with ``head``.
    """
    waiting: list[ArchiveRow] = []
    current, held = 0, FRAME_HEAD_BYTES
    for page in pages:
        for database, rows in _by_database(page, head):
            if waiting and database != current:
                yield Rows(current, waiting)
                waiting, held = [], FRAME_HEAD_BYTES
            current, left = database, rows
            while left:
                sizes = [len(key) + len(value) + ROW_HEAD_BYTES for key, value, _, _ in left]
                ends = list(accumulate(sizes, initial=held))
                fit = min(bisect_right(ends, ARCHIVE_FRAME_BYTES_MAX) - 1, ARCHIVE_FRAME_ROWS_MAX - len(waiting))
                if fit <= 0 and waiting:
                    yield Rows(current, waiting)
                    waiting, held = [], FRAME_HEAD_BYTES
                    continue
                fit = max(fit, 1)  # A row that is larger than a frame has one to itself.
                waiting += left[:fit]
                held, left = ends[fit], left[fit:]
    if waiting:
        yield Rows(current, waiting)


def foreign() -> PrefixdbError:
    """Return the error for a row that is not the namespace's: the server stops serving on it."""
    return error(Reason.INTERNAL, "The storage engine returned a row of another namespace.")


def _pages(cursor: Cursor) -> Iterator[Sequence[Row]]:
    while page := cursor.fetch(ARCHIVE_FRAME_ROWS_MAX, ARCHIVE_FRAME_BYTES_MAX):
        yield page


def _by_database(page: Sequence[Row], head: bytes) -> Iterator[tuple[int, list[ArchiveRow]]]:
    """Yield the rows of a page by their databases, each with its owner's key."""
    cut = DATA_HEAD_BYTES
    first = page[0].key[:cut]
    rows = [(key[cut:], payload, version, end) for key, payload, version, end in page if key[:cut] == first]
    if len(rows) == len(page):
        yield _database(first, head), rows
        return
    for found, group in groupby(page, key=lambda row: row.key[:cut]):
        database = _database(found, head)
        yield database, [(key[cut:], payload, version, end) for key, payload, version, end in group]


def _database(found: bytes, head: bytes) -> int:
    if not found.startswith(head) or len(found) != DATA_HEAD_BYTES:
        raise foreign()
    return int.from_bytes(found[_DATABASE_AT:])
