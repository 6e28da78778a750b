"""The rows of an archive in batches, and which keys of a batch exist.

Batches are cut by position alone, never by what is found in the store: an import that goes on after a restart cuts them
where it cut them before, and the position in its record is always one between two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from prefixdb.archive import ArchiveRow, Rows, ScannedRows
from prefixdb.backup.import_record import ImportRecord, OnConflict
from prefixdb.clock import Clock
from prefixdb.keycodec import RowKey, Span, data_key
from prefixdb.limits import MIB
from prefixdb.store.base import Put, Store

BATCH_ROWS = 1_000
"""Rows of a commit: two to five milliseconds of the store, for which others wait."""

BATCH_BYTES = 1 * MIB
"""Keys and values of a commit, but for a single larger row."""

LOOKED_UP_AT_ONCE = 64
"""Rows that are read at once to see whether they exist: with the largest values these are a gibibyte at worst."""


class Batch(NamedTuple):
    """Rows that come in together.

    puts: their writes, no key twice.
    rows: of the archive that it covers.
    expired: of these that have outlived themselves.
    repeated: of these that another row of the batch with the same key stands for.
    """

    puts: list[Put]
    rows: int
    expired: int = 0
    repeated: int = 0


def batches_of(
    pages: Iterable[Rows | ScannedRows],
    clock: Clock,
    namespace_id: int,
    *,
    version_of: Callable[[int], int] = lambda version: 0,
    skip: int = 0,
    whole: bool = False,
    last_wins: bool = False,
) -> Iterator[Batch]:
    """Yield the rows of an archive in batches.

    Args:
        pages: the frames of rows.
        clock: decides what is expired.
        namespace_id: where they go.
        version_of: gives each version the one the row will have.
        skip: rows from the start that have been dealt with.
        whole: all of them are one batch; also when there is none.
        last_wins: of rows with one key in a batch the last counts, else the first.
    """
    held: list[tuple[bytes, ArchiveRow]] = []
    size = 0
    for page in pages:
        count = page.facts.rows if isinstance(page, ScannedRows) else len(page.rows)
        if skip >= count:
            skip -= count
            continue
        rows = page.rows
        head = data_key(namespace_id, page.database, b"x")[:-1]
        for row in rows[skip:] if skip else rows:
            more = len(row[0]) + len(row[1])
            if held and not whole and (len(held) >= BATCH_ROWS or size + more > BATCH_BYTES):
                yield _batch(held, clock.now_ms(), version_of, last_wins=last_wins)
                held, size = [], 0
            held.append((head, row))
            size += more
        skip = 0
    if held or whole:
        yield _batch(held, clock.now_ms(), version_of, last_wins=last_wins)


def _batch(
    held: Sequence[tuple[bytes, ArchiveRow]], now_ms: int, version_of: Callable[[int], int], *, last_wins: bool
) -> Batch:
    live = [
        Put(RowKey(head + key), value, expires, version_of(version))
        for head, (key, value, version, expires) in held
        if not 0 < expires <= now_ms
    ]
    expired = len(held) - len(live)
    puts = live
    if len({put.key for put in live}) != len(live):
        unique: dict[RowKey, Put] = {}
        for put in live:
            if last_wins or put.key not in unique:
                unique[put.key] = put
        puts = list(unique.values())
    return Batch(puts, len(held), expired, len(live) - len(puts))


def applicable(batch: Batch, there: frozenset[RowKey], policy: OnConflict) -> list[Put]:
    """Return which rows of a batch are written when the keys in ``there`` exist."""
    if policy is OnConflict.OVERWRITE or not there:
        return batch.puts
    return [put for put in batch.puts if put.key not in there]


def existing_keys(store: Store, batch: Batch, record: ImportRecord) -> frozenset[RowKey]:
    """Return which keys of a batch exist; none when it does not matter for the import: nobody may know."""
    if not batch.puts or (record.on_conflict is OnConflict.OVERWRITE and not record.counts):
        return frozenset()
    found = _found_by_walking(store, batch.puts) if record.first else None
    if found is None:
        found = []
        keys = [put.key for put in batch.puts]
        for first in range(0, len(keys), LOOKED_UP_AT_ONCE):
            some = keys[first : first + LOOKED_UP_AT_ONCE]
            found += [key for key, row in zip(some, store.get_many(some), strict=True) if row is not None]
    return frozenset(found)


def _found_by_walking(store: Store, puts: Sequence[Put]) -> list[RowKey] | None:
    """Return the existing keys of sorted rows by one walk from the first to the last; None when there is too much else
    between them."""
    cursor = store.open_cursor(Span(puts[0].key, RowKey(puts[-1].key + b"\0")), keys_only=True)
    try:
        seen: set[RowKey] = set()
        while len(seen) <= 2 * len(puts):
            rows = cursor.fetch(2 * len(puts), MIB)
            if not rows:
                return [put.key for put in puts if put.key in seen]
            seen.update(row.key for row in rows)
        return None
    finally:
        cursor.close()
