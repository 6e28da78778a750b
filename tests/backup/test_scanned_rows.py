"""Goal: rows that stay packed end up as those that are decoded in Python do, and bad ones are refused alike.

Method: random archives (several databases, lifetimes, versions) are read, ranked and placed in both ways, and all that
comes out is compared; frames written in unusual ways, and hostile ones, are given to both readers.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from prefixdb.archive import (
    ArchiveReader,
    ArchiveRow,
    ArchiveWriter,
    Header,
    Rows,
    ScannedRows,
    facts_of,
    frames_of,
    row_batches,
)
from prefixdb.archive.rows import check_rows, decode_rows, encode_rows
from prefixdb.archive.scanned import check_facts
from prefixdb.backup.placing import Frame, place_files
from prefixdb.backup.ranks import Ranks, ranks_of, versions_of
from prefixdb.errors import PrefixdbError
from prefixdb.keycodec import FAMILY_DATA, RowKey, Span, data_key, family_span
from prefixdb.limits import ARCHIVE_FRAME_ROWS_MAX, KEY_BYTES_MAX
from prefixdb.store import open_store
from prefixdb.store.base import Row, Store
from prefixdb.store.ingest import FileIngest
from prefixdb.store.version_rule import KEPT_VERSIONS, NEW_VERSIONS, VersionRule
from tests.support.archives_hostile import HOSTILE
from tests.support.clocks import HeldClock

native = pytest.importorskip("prefixdb.store.native", reason="the extension is not built")

NOW_MS = 1_000_000
NAMESPACE = 7


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store("native", tmp_path / "data", clock=HeldClock(now_ms=NOW_MS))
    yield opened
    opened.close()


def random_pages(seed: int, *, versions: int) -> list[Rows]:
    """Return sorted rows of some databases, as frames have them."""
    chance = random.Random(seed)
    rows = []
    for database in sorted(chance.sample(range(2**16), 4)):
        keys = {chance.randbytes(chance.choice((1, 3, 40))) for _ in range(400)} | {b"k" * KEY_BYTES_MAX}
        for key in sorted(keys):
            expires = chance.choice((0, 0, 1, NOW_MS, NOW_MS + 1, 2**63 - 1))
            rows.append(
                (database, key, chance.randbytes(chance.choice((0, 5, 300))), chance.randint(1, versions), expires)
            )
    return list(row_batches(rows))


def frames_of_pages(pages: list[Rows], codec: str = "zstd") -> list[bytes]:
    writer = ArchiveWriter(Header(kind="export", codec=codec, sorted=True, last_version=2**63))
    return [writer.header(), *(writer.rows(page.database, page.rows) for page in pages), writer.footer()]


def read(frames: list[bytes], *, scanned: bool) -> list[Rows | ScannedRows]:
    reader = ArchiveReader(native.NativeRowsScanner() if scanned else None)
    contents = [reader.read(frame) for frame in frames]
    reader.finish()
    return [content for content in contents if isinstance(content, Rows | ScannedRows)]


def placed(store: Store, namespace_id: int, pages: list[Rows | ScannedRows], rule: VersionRule) -> list[Row]:
    """Place the rows into a namespace and return what is there then."""
    span = family_span(namespace_id, FAMILY_DATA)
    frames = [Frame(page, namespace_id, NOW_MS, rule) for page in pages]
    done = place_files(store, span, frames, guards=())
    assert done is not None and done.rows == sum(frame.written for frame in frames)
    cursor = store.open_cursor(span, raw=True)
    try:
        rows: list[Row] = []
        while some := cursor.fetch(1_000, 1 << 20):
            rows += some
        return rows
    finally:
        cursor.close()


def without_namespace(rows: list[Row]) -> list[tuple[bytes, bytes, int, int]]:
    return [(row.key[8:], row.payload, row.version, row.expires_at_ms) for row in rows]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("codec", ["zstd", "none"])
def test_scanned_rows_are_read_as_the_same_rows_with_the_same_facts(seed: int, codec: str) -> None:
    frames = frames_of_pages(random_pages(seed, versions=2**62), codec)
    scanned, decoded = read(frames, scanned=True), read(frames, scanned=False)
    assert len(scanned) == len(decoded)
    for one, other in zip(scanned, decoded, strict=True):
        assert isinstance(one, ScannedRows) and isinstance(other, Rows)
        assert (one.database, list(one.rows)) == (other.database, list(other.rows))
        assert facts_of(one) == facts_of(other)
        assert list(one.versions()) == sorted(set(versions_of(other)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["new", "kept", "ranked"])
def test_scanned_rows_are_placed_as_decoded_ones_are(store: Store, seed: int, kind: str) -> None:
    frames = frames_of_pages(random_pages(seed, versions=60))
    for _ in range(100):  # So that kept versions are those of earlier commits.
        ingest = store.open_ingest(Span(data_key(1, 0, b"a"), data_key(1, 0, b"b")))
        assert ingest is not None
        ingest.abort()
    results = []
    for scanned in (True, False):
        pages = read(frames, scanned=scanned)
        ranks: Ranks = ranks_of(versions_of(page) for page in pages)
        rules = {"new": NEW_VERSIONS, "kept": KEPT_VERSIONS, "ranked": ranks.mapped_onto([(3, 9), (20, 60)])}
        results.append(without_namespace(placed(store, NAMESPACE + scanned, pages, rules[kind])))
    versions = [{version for _, _, version, _ in rows} for rows in results]
    if kind == "new":  # Each ingest has a version of its own.
        assert all(len(each) == 1 for each in versions)
        results = [[(key, value, 0, expires) for key, value, _, expires in rows] for rows in results]
    assert results[0] == results[1]
    assert results[0] and all(not 0 < expires <= NOW_MS for _, _, _, expires in results[0])


def test_frames_of_nothing_but_expired_rows_leave_no_file(store: Store) -> None:
    page: list[ArchiveRow] = [(b"a", b"", 1, 5), (b"b", b"", 1, NOW_MS)]
    rows = read(frames_of_pages([Rows(0, page)]), scanned=True)
    assert placed(store, NAMESPACE, rows, NEW_VERSIONS) == []
    both = [Rows(0, page), Rows(1, [(b"c", b"v", 1, 0)])]
    assert len(placed(store, NAMESPACE, read(frames_of_pages(both), scanned=True), NEW_VERSIONS)) == 1


def test_a_frame_outside_the_span_or_out_of_order_is_refused_and_leaves_nothing(store: Store) -> None:
    (frame,) = read(frames_of_pages([Rows(5, [(b"b", b"v", 1, 0), (b"c", b"v", 1, 0)])]), scanned=True)
    assert isinstance(frame, ScannedRows)
    begin, end = data_key(NAMESPACE, 5, b"b"), data_key(NAMESPACE, 5, b"c")
    for span in (Span(begin, end), Span(RowKey(begin + b"\0"), RowKey(end + b"\0")), family_span(8, FAMILY_DATA)):
        ingest = store.open_ingest(span)
        assert ingest is not None
        with pytest.raises(ValueError, match="outside the span"):
            ingest.add_frame(frame, namespace_id=NAMESPACE, now_ms=0, versions=NEW_VERSIONS)
        assert ingest.finish() is not None
    ingest = store.open_ingest(Span(begin, RowKey(end + b"\0")))
    assert isinstance(ingest, FileIngest)
    assert ingest.add_frame(frame, namespace_id=NAMESPACE, now_ms=0, versions=NEW_VERSIONS) == 2
    with pytest.raises(ValueError, match="not above the one before"):
        ingest.add_frame(frame, namespace_id=NAMESPACE, now_ms=0, versions=NEW_VERSIONS)
    ingest.abort()
    ingest = store.open_ingest(family_span(NAMESPACE, FAMILY_DATA))
    assert ingest is not None
    with pytest.raises(ValueError, match="version of no earlier commit"):
        far = VersionRule.ranked(ranks_of([[1]])._versions, [(2**60, 1)])
        ingest.add_frame(frame, namespace_id=NAMESPACE, now_ms=0, versions=far)
    ingest.abort()


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_archive_is_refused_for_the_same_reason_at_the_same_place(name: str) -> None:
    refusals = []
    for scanner in (None, native.NativeRowsScanner()):
        reader = ArchiveReader(scanner)
        with pytest.raises(PrefixdbError) as refused:
            _feed(reader, HOSTILE[name]().data)
        refusals.append((refused.value.reason, refused.value.metadata.get("place")))
    assert refusals[0] == refusals[1]


def _feed(reader: ArchiveReader, archive: bytes) -> None:
    for frame in frames_of(io.BytesIO(archive)):
        reader.read(frame)
    reader.finish()


def test_what_is_plain_for_the_scanner_is_right_for_python_too() -> None:
    """Random changes of good content: whatever the scanner takes, Python decodes to the same."""
    chance, scanner = random.Random(5), native.NativeRowsScanner()
    good = encode_rows(3, [(b"key %03d" % row, b"v" * (row % 40), row, row % 3) for row in range(200)])
    plain = 0
    for _ in range(4_000):
        bad = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(bad))
            bad[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        content = bytes(bad)
        facts = scanner.scan(content)
        if facts is None:
            continue
        plain += 1
        rows = decode_rows(content)
        assert facts == facts_of(rows)
        after = b"" if facts.ascending else None
        assert check_rows(rows.rows, (0, 2**64 - 1), after=after) == facts.version_max
        check_facts(content, facts, (0, 2**64 - 1), after=after)
    assert plain > 100


def test_rows_in_an_unusual_spelling_are_left_to_python() -> None:
    scanner = native.NativeRowsScanner()
    row = (b"k", b"v", 1, 0)
    unusual = b"\x92\x00\xdd\x00\x00\x00\x01" + msgpack.packb(row)
    assert decode_rows(unusual) == Rows(0, (row,))
    assert scanner.scan(unusual) is None and scanner.versions(unusual) is None
    several = [(b"%06d" % number, b"", 1, 0) for number in range(ARCHIVE_FRAME_ROWS_MAX + 1)]
    assert scanner.scan(msgpack.packb((0, several))) is None
