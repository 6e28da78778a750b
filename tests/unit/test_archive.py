"""Goal: what goes into an archive comes out of it, and reader and writer keep their promises to those who use them.

Method: archives are written and read back, by the reader and by plain msgpack; the bytes are compared with those that
the tests' own encoder makes; each limit is met on both sides.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import msgpack
import pytest
import zstandard

from prefixdb.archive import (
    ArchiveReader,
    ArchiveWriter,
    Footer,
    Group,
    GroupRule,
    Groups,
    Header,
    Member,
    Members,
    Rows,
    frames_of,
    group_batches,
    member_batches,
    row_batches,
    scattered_batches,
)
from prefixdb.archive.frames import START_DIGEST, parse_frame
from prefixdb.archive.text import BadLine
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.limits import (
    ARCHIVE_FRAME_BYTES_MAX,
    ARCHIVE_FRAME_ROWS_MAX,
    GROUP_PREFIX_BYTES_MAX,
    GROUP_RULES_MAX,
    KEY_BYTES_MAX,
    LABEL_CHARS_MAX,
    LABELS_MAX,
    NAME_CHARS_MAX,
    REQUEST_BYTES_MAX,
    TOKEN_GROUPS_MAX,
    VALUE_BYTES_CEILING,
)
from tests.support.archives import GROUP, LAST_VERSION, MEMBER, archive, encode, pieces_of, sample_rows

HEADER = Header(
    kind="namespace",
    codec="none",
    created_at_ms=1_700_000_000_000,
    server="prefixdb 0.1.0",
    namespace_id=7,
    namespace="acme",
    incarnation=500,
    labels={"plan": "gold"},
    last_version=LAST_VERSION,
)
EDITORS = Group("editors", tuple(GroupRule(*rule) for rule in GROUP[1]))
ALICE = Member(**{**MEMBER, "groups": tuple(MEMBER["groups"])})


def export(**changes: Any) -> Header:
    """Return the header of an export."""
    return Header(**{"kind": "export", "last_version": LAST_VERSION, **changes})


def written(header: Header, batches: list[Rows]) -> list[bytes]:
    """Return the frames of an archive of rows."""
    writer = ArchiveWriter(header)
    return [writer.header(), *[writer.rows(*batch) for batch in batches], writer.footer()]


def wide(number: int) -> Group:
    """Return a group of 16 KiB."""
    return Group(f"g{number:03d}", (GroupRule(0, b"p" * 4096, True, True),) * 4)


def contents(frames: list[bytes]) -> list[Any]:
    """Return what the frames of a whole archive hold."""
    reader = ArchiveReader()
    found = [reader.read(frame) for frame in frames]
    assert found[-1] == reader.finish()
    return found


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_what_is_written_is_read_back(codec: str) -> None:
    header = replace(HEADER, codec=codec)
    first, second = sample_rows(3000), sample_rows(10, seed=2)
    writer = ArchiveWriter(header)
    frames = [
        writer.header(),
        writer.groups([EDITORS]),
        writer.members([ALICE]),
        writer.rows(0, first),
        writer.rows(65535, second),
        writer.footer(),
    ]
    reader = ArchiveReader()
    found = [reader.read(frame) for frame in frames]
    greatest = max(row[2] for row in first + second)
    assert found[0] == header == reader.header
    assert found[1:3] == [Groups((EDITORS,)), Members((ALICE,))]
    assert [(batch.database, list(batch.rows)) for batch in found[3:5]] == [(0, first), (65535, second)]
    assert found[5] == Footer(3010, 1, 1, greatest) == reader.finish()
    assert (
        (reader.digest, reader.frames, reader.rows) == (writer.digest, 6, 3010) == (reader.digest, writer.frames, 3010)
    )
    assert reader.bytes == sum(map(len, frames)) and reader.sorted


def test_the_bytes_are_those_of_an_encoder_that_shares_no_code() -> None:
    first, second = sample_rows(40), sample_rows(20, seed=2)
    writer = ArchiveWriter(HEADER)
    mine = [writer.header(), writer.groups([EDITORS]), writer.members([ALICE])]
    mine += [writer.rows(0, first[:20]), writer.rows(0, first[20:]), writer.rows(3, second), writer.footer()]
    assert mine == encode(pieces_of(codec="none"), "none")


def test_a_file_is_a_plain_stream_of_msgpack() -> None:
    data = archive()
    digest = hashlib.sha256(b"prefixdb archive 1").digest()
    kinds = []
    for kind, raw_bytes, body, claimed in msgpack.Unpacker(io.BytesIO(data)):
        digest = hashlib.sha256(digest + kind.encode() + raw_bytes.to_bytes(8, "big") + body).digest()
        assert digest == claimed
        content = body if kind == "header" else zstandard.decompress(body)
        assert len(content) == raw_bytes
        kinds.append(kind)
    assert kinds == ["header", "groups", "members", "rows", "rows", "rows", "footer"]


class Trickle(io.RawIOBase):
    """A file that gives a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._file.read(min(len(buffer), 7))
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize("opened", [io.BytesIO, Trickle], ids=["file", "trickle"])
def test_a_file_is_cut_into_its_frames_byte_for_byte(opened: Any) -> None:
    frames = encode(pieces_of())
    assert list(frames_of(opened(b"".join(frames)))) == frames


def test_a_pipe_is_cut_into_frames_as_they_come() -> None:
    frames = encode(pieces_of())
    taking, giving = os.pipe()
    with os.fdopen(taking, "rb") as source, os.fdopen(giving, "wb", buffering=0) as sink:
        reading: Iterator[bytes] = frames_of(source)
        for frame in frames:
            sink.write(frame)
            assert next(reading) == frame  # Waits for nothing behind the frame.
        sink.close()
        assert list(reading) == []


def test_a_refused_frame_changes_nothing_and_the_right_one_may_follow() -> None:
    frames = encode(pieces_of())
    reader = ArchiveReader()
    for number, frame in enumerate(frames):
        before = (reader.digest, reader.frames, reader.bytes)
        for bad in (frame[:-1] + bytes([frame[-1] ^ 1]), frame + b"\x00", frames[number - 1], b""):
            with pytest.raises(PrefixdbError) as refusal:
                reader.read(bad)
            assert refusal.value.reason is Reason.ARCHIVE_INVALID
            assert refusal.value.metadata["place"] == f"frame {number + 1} at byte {sum(map(len, frames[:number]))}"
            assert (reader.digest, reader.frames, reader.bytes) == before
        reader.read(frame)
    assert reader.finish().rows == 60


def test_the_digest_tells_where_an_upload_goes_on() -> None:
    frames = encode(pieces_of())
    writer_side, server = ArchiveReader(), ArchiveReader()
    assert writer_side.digest == server.digest == START_DIGEST
    for frame in frames[:4]:
        server.read(frame)
    for frame in frames:
        writer_side.read(frame)
        if writer_side.frames == server.frames:
            assert writer_side.digest == server.digest
    assert writer_side.digest != server.digest


def test_an_archive_that_is_not_finished_is_no_archive() -> None:
    reader = ArchiveReader()
    for frame in encode(pieces_of()):
        with pytest.raises(PrefixdbError, match="cut short"):
            reader.finish()
        reader.read(frame)
    reader.finish()


def test_an_archive_of_nothing_is_one() -> None:
    assert contents(written(export(), []))[-1] == Footer(0, 0, 0, 0)


def test_a_newer_format_is_refused_with_both_numbers() -> None:
    fields = {"format": 2, "whatever": "is new"}
    pieces = [pieces_of()[0]._replace(content=msgpack.packb(fields)), *pieces_of()[1:]]
    with pytest.raises(PrefixdbError) as refusal:
        ArchiveReader().read(encode(pieces)[0])
    assert refusal.value.reason is Reason.FORMAT_TOO_NEW
    assert "format 2" in str(refusal.value) and "up to 1" in str(refusal.value)


def test_the_longest_rows_and_the_fullest_frames_pass() -> None:
    draw = random.Random(5)
    longest = (b"k" * KEY_BYTES_MAX, draw.randbytes(VALUE_BYTES_CEILING), LAST_VERSION, 2**63 - 1)
    many = [(b"%05d" % number, b"", 1, 0) for number in range(ARCHIVE_FRAME_ROWS_MAX)]
    frames = written(export(), [Rows(0, many), Rows(1, [longest])])
    assert max(map(len, frames)) < REQUEST_BYTES_MAX - 1024, "a frame has to fit one message"
    found = contents(list(frames_of(io.BytesIO(b"".join(frames)))))
    assert list(found[1].rows) == many and list(found[2].rows) == [longest]


def test_a_frame_of_several_rows_may_have_a_mebibyte_and_not_a_byte_more() -> None:
    head = len(msgpack.packb((0, [(b"a", b"", 1, 0), (b"b", bytes(70_000), 1, 0)]))) - 70_000
    rows = [(b"a", b"", 1, 0), (b"b", bytes(ARCHIVE_FRAME_BYTES_MAX - head), 1, 0)]
    frames = written(export(), [Rows(0, rows)])
    assert parse_frame(frames[1]).raw_bytes == ARCHIVE_FRAME_BYTES_MAX
    assert list(contents(frames)[1].rows) == rows
    with pytest.raises(ValueError, match="more content"):
        written(export(), [Rows(0, [rows[0], (b"b", rows[1][1] + b"x", 1, 0)])])


@pytest.mark.parametrize(
    "make",
    [
        lambda writer: writer.footer(),
        lambda writer: (writer.header(), writer.header()),
        lambda writer: (writer.header(), writer.rows(0, [])),
        lambda writer: (writer.header(), writer.rows(0, [(b"", b"", 1, 0)])),
        lambda writer: (writer.header(), writer.rows(0, [(b"b", b"", 1, 0), (b"a", b"", 1, 0)])),
        lambda writer: (writer.header(), writer.rows(1, [(b"b", b"", 1, 0)]), writer.rows(0, [(b"b", b"", 1, 0)])),
        lambda writer: (writer.header(), writer.rows(0, [(b"b", b"", LAST_VERSION + 1, 0)])),
        lambda writer: (writer.header(), writer.rows(0, [(b"b", b"", 1, 0)]), writer.groups([EDITORS])),
        lambda writer: (writer.header(), writer.groups([Group("writers", ())])),
        lambda writer: (writer.header(), writer.groups([EDITORS, EDITORS])),
        lambda writer: (writer.header(), writer.members([])),
        lambda writer: (writer.header(), writer.groups([wide(number) for number in range(70)])),
        lambda writer: (writer.header(), writer.footer(), writer.footer()),
        lambda writer: (writer.header(), writer.rows(0, [(b"%05d" % n, b"", 1, 0) for n in range(8193)])),
        lambda writer: (writer.header(), writer.rows(0, [(b"%d" % n, bytes(2**19), 1, 0) for n in range(2)])),
    ],
)
def test_the_writer_makes_nothing_that_the_reader_would_refuse(make: Any) -> None:
    with pytest.raises(ValueError):
        make(ArchiveWriter(HEADER))


def test_reader_and_writer_may_be_called_from_thread_to_thread() -> None:
    writer, reader = ArchiveWriter(export()), ArchiveReader()
    rows = sample_rows(1000)

    def step(act: Any) -> None:
        thread = threading.Thread(target=lambda: reader.read(act()))
        thread.start()
        thread.join()

    step(writer.header)
    for begin in range(0, 1000, 100):
        step(lambda begin=begin: writer.rows(0, rows[begin : begin + 100]))
    step(writer.footer)
    assert reader.finish().rows == 1000


def test_rows_are_cut_into_frames_that_fit() -> None:
    draw = random.Random(3)
    rows = [
        (
            number // 4000,
            b"%08d" % number,
            draw.randbytes(draw.choice([0, 10, 1000, 300_000]) if number % 50 == 0 else 90),
            1,
            0,
        )
        for number in range(20_000)
    ]
    batches = list(row_batches(iter(rows)))
    assert [(batch.database, *row) for batch in batches for row in batch.rows] == rows
    sizes = [len(msgpack.packb((batch.database, batch.rows))) for batch in batches]
    assert max(sizes) <= ARCHIVE_FRAME_BYTES_MAX and len(batches) <= sum(sizes) // (ARCHIVE_FRAME_BYTES_MAX // 2) + 5
    contents(written(export(), batches))


def test_small_rows_fill_a_frame_by_number_and_a_large_one_stands_alone() -> None:
    small = [(0, b"%05d" % number, b"", 1, 0) for number in range(ARCHIVE_FRAME_ROWS_MAX + 1)]
    large = (0, b"x", bytes(2 * ARCHIVE_FRAME_BYTES_MAX), 1, 0)
    sizes = [len(batch.rows) for batch in row_batches([*small, large, (0, b"y", b"", 1, 0)])]
    assert sizes == [ARCHIVE_FRAME_ROWS_MAX, 1, 1, 1]


def test_rows_of_databases_that_alternate_are_gathered() -> None:
    rows = [(number % 500, b"%06d" % number, b"v" * 50, 0, 0) for number in range(200_000)]
    batches = list(scattered_batches(iter(rows)))
    assert len(batches) <= 1500, "frames of one row each would be many"
    for database in (0, 499):
        mine = [row for batch in batches if batch.database == database for row in batch.rows]
        assert mine == [row[1:] for row in rows if row[0] == database]
    header = Header(kind="rows", sorted=False)
    assert contents(written(header, batches))[-1].rows == 200_000


def test_groups_and_members_are_cut_into_frames_that_fit() -> None:
    groups = [Group(f"g{number:05d}", (GroupRule(0, b"p" * 4096, True, False),) * 4) for number in range(300)]
    members = [
        Member(f"m{number:06d}", ("g",) * 32, MEMBER["password_hash"], False, 1, 2, 3) for number in range(20_000)
    ]
    writer, reader = ArchiveWriter(HEADER), ArchiveReader()
    reader.read(writer.header())
    found_groups = [group for batch in group_batches(groups) for group in reader.read(writer.groups(batch)).groups]
    found_members = [one for batch in member_batches(members) for one in reader.read(writer.members(batch)).members]
    reader.read(writer.footer())
    assert found_groups == groups and found_members == members
    assert reader.frames < 20, "small ones share frames"


def test_everything_may_be_as_large_as_it_may_be() -> None:
    name = "ü" * NAME_CHARS_MAX
    labels = {f"{number:03d}" + "k" * (LABEL_CHARS_MAX - 3): "v" * LABEL_CHARS_MAX for number in range(LABELS_MAX)}
    header = replace(HEADER, namespace=name, labels=labels)
    rule = GroupRule(65535, b"p" * (GROUP_PREFIX_BYTES_MAX // GROUP_RULES_MAX), True, True)
    group = Group(name, (rule,) * GROUP_RULES_MAX)
    password_hash = "$argon2id$" + "A" * 502
    member = Member(name, (name,) * TOKEN_GROUPS_MAX, password_hash, True, 2**63 - 1, 2**63 - 1, 2**63 - 1)
    writer, reader = ArchiveWriter(header), ArchiveReader()
    assert reader.read(writer.header()) == header
    assert reader.read(writer.groups([group])) == Groups((group,))
    assert reader.read(writer.members([member])) == Members((member,))
    prefixed = export(database=65535, prefix=b"p" * KEY_BYTES_MAX)
    assert contents(written(prefixed, [Rows(65535, [(b"p" * KEY_BYTES_MAX, b"", 1, 0)])]))[0] == prefixed


@pytest.mark.parametrize("what", ["GROUPS", "MEMBERS"])
def test_there_are_no_more_groups_and_members_than_a_namespace_may_have(monkeypatch: Any, what: str) -> None:
    monkeypatch.setattr(f"prefixdb.archive.order.{what}_PER_NAMESPACE_MAX", 3)
    writer = ArchiveWriter(HEADER)
    writer.header()

    def add(*names: str) -> None:
        if what == "GROUPS":
            writer.groups([Group(name, ()) for name in names])
        else:
            writer.members([Member(name, (), "", False, 0, 0, 0) for name in names])

    add("a")
    with pytest.raises(ValueError, match="than a namespace may have"):
        add("b", "c", "d")
    add("b", "c")
    with pytest.raises(ValueError, match="than a namespace may have"):
        add("d")


def test_nothing_that_is_secret_or_a_tenants_is_in_a_repr() -> None:
    header = export(database=0, prefix=b"secret-prefix")
    assert "argon2" not in repr(Members((ALICE,)))
    shown = [
        header,
        Rows(0, [(b"secret", b"secret", 1, 0)]),
        Groups((Group("editors", (GroupRule(0, b"secret", True, True),)),)),
        parse_frame(archive(codec="none")[: len(encode(pieces_of(codec="none"), "none")[0])]),
        BadLine(1, "The key is empty.", b"secret", b"secret"),
    ]
    assert "secret" not in repr(shown) and "acme" not in repr(shown[3])


def test_a_file_object_without_a_buffer_is_read_whole(tmp_path: Any) -> None:
    path = tmp_path / "archive"
    path.write_bytes(archive())
    with path.open("rb", buffering=0) as file:
        raw: BinaryIO = file  # type: ignore[assignment]
        assert len(list(frames_of(raw))) == 7
