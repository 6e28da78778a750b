"""The two ways rows get into an archive make the same bytes, and neither lets a foreign row in.

Method: one store of random rows (empty and huge values, many databases, lifetimes that end and do not, keys of every
length) is exported twice, by its cursor that packs and by one that can only fetch; the frames are compared byte for
byte. Both are compared with ``row_batches``, which says where frames are cut. Cursors that return rows of others show
what each way does about them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from prefixdb.archive import ArchiveWriter, Header, PackedRows, row_batches
from prefixdb.backup.exporting import Exporter, Wanted
from prefixdb.backup.packing import gathered, row_frames
from prefixdb.catalog.entities import NamespaceRecord, NamespaceState
from prefixdb.errors import InternalError, Reason
from prefixdb.keycodec import DATA_HEAD_BYTES, FAMILY_DATA, RowKey, Span, data_key, family_span
from prefixdb.limits import ARCHIVE_FRAME_BYTES_MAX, KEY_BYTES_MAX, MIB
from prefixdb.store.base import Commit, PackingCursor, Put, Row, Store
from tests.store.stores import STORES
from tests.support.clocks import HeldClock

NS = 42
HEAD = data_key(NS, 0, b"x")[:9]

needs_native = pytest.mark.skipif("native" not in STORES, reason="the native store is not built")


class Fetching:
    """A cursor that can only fetch."""

    def __init__(self, cursor: Any) -> None:
        self.fetch, self.count, self.close = cursor.fetch, cursor.count, cursor.close


class FetchingStore:
    """A store whose cursors can only fetch."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.status = store.status

    def open_cursor(self, span: Span, **how: Any) -> Fetching:
        return Fetching(self._store.open_cursor(span, **how))


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def native(tmp_path: Path, clock: HeldClock) -> Iterator[Store]:
    from prefixdb.store.native import NativeStore

    store = NativeStore.open(tmp_path / "data", clock=clock)
    yield store
    store.close()


def fill(store: Store, clock: HeldClock, seed: int) -> int:
    """Write random rows of the namespace and of its neighbours; returns how many it has that are alive."""
    chance = random.Random(seed)
    rows: dict[RowKey, Put] = {}
    now = clock.now_ms()
    for database in (0, 1, 7, 127, 128, 255, 256, 65535, *(chance.randrange(1000, 2000) for _ in range(50))):
        for _ in range(chance.choice([1, 1, 15, 16, 700])):
            key = data_key(NS, database, chance.randbytes(chance.choice([1, 2, 20, 255, 256, 300])))
            value = chance.randbytes(chance.choice([0, 0, 1, 100, 255, 256, 3_000]))
            lifetime = chance.choice([0, 0, 0, now, now + 1, now + 127, 2**33, 2**40])
            rows[key] = Put(key, value, lifetime)
    for number in range(20_000):  # More than the rows of a frame, in one database.
        key = data_key(NS, 3, b"%08d" % number)
        rows[key] = Put(key, b"")
    large = (65_535, 65_536, MIB - 50, MIB, 3 * MIB, 100)
    for number, size in enumerate(large):
        key = data_key(NS, 4, b"large%d" % number)
        rows[key] = Put(key, os.urandom(size))
    longest = data_key(NS, 4, b"\xff" * KEY_BYTES_MAX)
    rows[longest] = Put(longest, b"v")
    puts = list(rows.values())
    chance.shuffle(puts)
    for first in range(0, len(puts), 900):
        store.commit(Commit(tuple(puts[first : first + 900])))
    for neighbour in (NS - 1, NS + 1):
        store.commit(Commit((Put(data_key(neighbour, 3, b"theirs"), b"theirs"),)))
    return sum(1 for put in puts if not 0 < put.expires_at_ms <= now)


def frames(store: Any, clock: HeldClock, **fields: Any) -> list[bytes]:
    """Return the frames of an export."""
    record = NamespaceRecord(NS, "home", NamespaceState.ACTIVE, 5, {}, 1, 1, "", 5)
    exporter = Exporter(cast("Store", store), clock, Wanted(record, **fields))
    try:
        made = []
        while (piece := exporter.next()) is not None:
            made += piece.frames
        return made
    finally:
        exporter.close()


@needs_native
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_packing_and_fetching_make_the_same_frames(native: Store, clock: HeldClock, seed: int, codec: str) -> None:
    alive = fill(native, clock, seed)
    cursor = native.open_cursor(family_span(NS, FAMILY_DATA))
    assert isinstance(cursor, PackingCursor)
    cursor.close()
    packed = frames(native, clock, codec=codec)
    assert packed == frames(FetchingStore(native), clock, codec=codec)
    assert len(packed) > 50
    for database, prefix in ((3, b""), (3, b"0000"), (4, b"large"), (65535, b""), (9, b"")):
        some = frames(native, clock, codec=codec, database=database, prefix=prefix)
        assert some == frames(FetchingStore(native), clock, codec=codec, database=database, prefix=prefix)
    cursor = native.open_cursor(family_span(NS, FAMILY_DATA))
    assert cursor.count(10**9) == alive
    cursor.close()


@needs_native
def test_frames_are_cut_where_row_batches_cuts(native: Store, clock: HeldClock) -> None:
    fill(native, clock, 3)
    cursor = native.open_cursor(family_span(NS, FAMILY_DATA))
    rows: list[Row] = []
    while page := cursor.fetch(1_000, MIB):
        rows += page
    cursor.close()
    cut = DATA_HEAD_BYTES
    expected = list(row_batches((int.from_bytes(key[9:cut]), key[cut:], *rest) for key, *rest in rows))
    for size in (1, 777, len(rows)):
        pages = [rows[first : first + size] for first in range(0, len(rows), size)]
        assert list(gathered(pages, HEAD)) == expected


class Scripted:
    """A cursor that returns these pages."""

    def __init__(self, *pages: list[Row]) -> None:
        self._pages = list(pages)

    def fetch(self, max_rows: int, max_bytes: int) -> list[Row]:
        return self._pages.pop(0) if self._pages else []

    def count(self, max_rows: int) -> int:
        raise NotImplementedError

    def close(self) -> None:
        pass


def started() -> ArchiveWriter:
    writer = ArchiveWriter(Header(kind="namespace", codec="none", sorted=True, last_version=9))
    writer.header()
    return writer


OURS = Row(data_key(NS, 0, b"a"), b"v", 1, 0)


@pytest.mark.parametrize(
    "key",
    [
        data_key(NS + 1, 0, b"theirs"),
        data_key(NS - 1, 0, b"theirs"),
        RowKey(data_key(NS, 0, b"x")[:8] + b"\x00system"),
        RowKey(HEAD),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_foreign_row_that_is_fetched_stops_everything(key: RowKey, alone: bool) -> None:
    row = Row(key, b"v", 1, 0)
    with pytest.raises(InternalError):
        list(row_frames(started(), Scripted([row] if alone else [OURS, row]), HEAD))


@needs_native
def test_a_foreign_row_that_is_packed_stops_the_store(native: Store) -> None:
    native.commit(Commit((Put(OURS.key, b"v"), Put(data_key(NS + 1, 0, b"theirs"), b"theirs"))))
    # The span is the mistake here: without the second look the neighbour's row would leave.
    cursor = native.open_cursor(Span(OURS.key, data_key(NS + 2, 0, b"x")))
    with pytest.raises(InternalError) as failure:
        list(row_frames(started(), cursor, HEAD))
    assert failure.value.reason is Reason.INTERNAL
    with pytest.raises(InternalError):
        native.get(OURS.key)


@needs_native
def test_a_closed_cursor_packs_nothing(native: Store) -> None:
    native.commit(Commit((Put(OURS.key, b"v"),)))
    cursor = native.open_cursor(family_span(NS, FAMILY_DATA))
    assert isinstance(cursor, PackingCursor)
    cursor.close()
    with pytest.raises(RuntimeError):
        cursor.pack(HEAD, 1, 1)


GOOD = PackedRows(b"content", 2, 0, b"a", b"b", 1, 1, 1, 9, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 0},
        {"rows": 8_193},
        {"content": b"x" * (ARCHIVE_FRAME_BYTES_MAX + 1)},
        {"first_key": b""},
        {"longest_key": 4_097},
        {"longest_value": 16 * MIB},
        {"least_version": 0},
        {"greatest_version": 10},
        {"latest_end_ms": 2**63},
        {"last_key": b"A"},
    ],
)
def test_packed_rows_that_no_reader_would_take_are_refused(wrong: dict[str, Any]) -> None:
    started().packed(GOOD)
    with pytest.raises(ValueError):
        started().packed(GOOD._replace(**wrong))


def test_packed_rows_keep_the_order_of_the_archive() -> None:
    for second in (GOOD, GOOD._replace(first_key=b"b", last_key=b"c")):
        writer = started()
        writer.packed(GOOD._replace(database=1))
        with pytest.raises(ValueError):
            writer.packed(second)
        with pytest.raises(ValueError):
            writer.packed(second._replace(database=1))
        writer.packed(second._replace(database=2))
    header = Header(kind="export", codec="none", sorted=True, last_version=9, database=1, prefix=b"p")
    for packed in (GOOD, GOOD._replace(database=1), GOOD._replace(database=1, first_key=b"p", last_key=b"q")):
        writer = ArchiveWriter(header)
        writer.header()
        with pytest.raises(ValueError):
            writer.packed(packed)
    writer = ArchiveWriter(Header(kind="rows", codec="none", sorted=False, last_version=0))
    writer.header()
    with pytest.raises(ValueError):
        writer.packed(GOOD._replace(least_version=0, greatest_version=0))
