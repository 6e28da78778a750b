"""Goal: whatever an archive holds, it is refused at the right place, in bounded memory, and no message quotes it.

Method: a thousand files with one changed byte, files cut at every length, and every kind of `archives_hostile`, whose
chain of digests is right so that each meets the check it is about. Memory is what tracemalloc saw at most, the bytes of
the file itself apart.
"""

from __future__ import annotations

import io
import random
import tracemalloc
from collections import Counter

import pytest

from prefixdb.archive import ArchiveReader, Footer, frames_of
from prefixdb.archive.frames import BODY_BYTES_MAX, Fault, parse_frame
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.limits import MIB
from tests.support.archives import archive, encode, flips, pieces_of
from tests.support.archives_hostile import HOSTILE

MEMORY_BYTES_MAX = 96 * MIB
"""A frame of 16 MiB, its body, its content and its row; or 1 MiB that unfolds as badly as it can."""


def load(data: bytes) -> Footer:
    """Read a whole file; returns its footer."""
    reader = ArchiveReader()
    for frame in frames_of(io.BytesIO(data)):
        reader.read(frame)
    return reader.finish()


def place_at(data: bytes, position: int) -> str:
    """Return the place of the frame that the byte at a position of a good file belongs to."""
    offset = 0
    for number, frame in enumerate(frames_of(io.BytesIO(data)), 1):
        if position < offset + len(frame):
            return f"frame {number} at byte {offset}"
        offset += len(frame)
    return f"frame {number + 1} at byte {offset}"


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_thousand_files_with_one_changed_byte_are_refused_where_it_is(codec: str) -> None:
    good = archive(codec=codec)
    load(good)
    for position, changed in flips(good, 1000):
        with pytest.raises(PrefixdbError) as refusal:
            load(changed)
        assert refusal.value.reason is Reason.ARCHIVE_INVALID
        assert refusal.value.metadata["place"] == place_at(good, position), position


def test_a_file_that_is_cut_anywhere_is_refused_where_it_ends() -> None:
    good = archive(rows=8)
    for length in range(len(good)):
        with pytest.raises(PrefixdbError) as refusal:
            load(good[:length])
        assert refusal.value.reason is Reason.ARCHIVE_INVALID
        assert refusal.value.metadata["place"] == place_at(good, length), length


def test_every_frame_that_is_left_out_or_stands_twice_is_noticed() -> None:
    frames = encode(pieces_of())
    for number in range(len(frames)):
        for order in ([*frames[:number], *frames[number + 1 :]], [*frames[: number + 1], *frames[number:]]):
            with pytest.raises(PrefixdbError) as refusal:
                load(b"".join(order))
            assert refusal.value.reason is Reason.ARCHIVE_INVALID


def test_two_thousand_contents_with_changed_bytes_and_right_digests_meet_no_surprise() -> None:
    draw = random.Random(9)
    outcomes: Counter[str] = Counter()
    for _ in range(2000):
        pieces = pieces_of(codec="none", rows=4)
        place = draw.randrange(len(pieces))
        content = bytearray(pieces[place].content)
        for _ in range(draw.choice([1, 1, 1, 2, 5])):
            content[draw.randrange(len(content))] = draw.choice(
                [draw.randrange(256), *b"\x00\x80\x90\xc0\xc1\xc7\xd4\xdf"]
            )
        pieces[place] = pieces[place]._replace(content=bytes(content))
        try:
            load(b"".join(encode(pieces, "none")))
            outcomes["taken"] += 1
        except PrefixdbError as refusal:
            outcomes[refusal.reason.name] += 1
            assert "frame" in refusal.metadata.get("place", "frame")
    # Values, versions and times may be others; whatever is no archive is refused, and nothing else ever happens.
    assert set(outcomes) <= {"taken", "ARCHIVE_INVALID", "FORMAT_TOO_NEW"}
    assert outcomes["ARCHIVE_INVALID"] > 800 and outcomes["taken"] > 100


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_a_hostile_archive_is_refused_at_its_place_in_bounded_memory(kind: str) -> None:
    hostile = HOSTILE[kind]()
    tracemalloc.start()
    try:
        with pytest.raises(PrefixdbError) as refusal:
            load(hostile.data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refusal.value.reason is Reason.ARCHIVE_INVALID
    assert refusal.value.metadata["place"].startswith(f"frame {hostile.frame} at byte "), str(refusal.value)
    assert refusal.value.metadata["place"] in str(refusal.value)
    assert peak < MEMORY_BYTES_MAX
    # Neither the cause nor the context may carry what a decoder quotes.
    assert refusal.value.__cause__ is None
    for secret in ("hunter2", "etc/passwd", "alice", "plan"):
        assert secret not in str(refusal.value)


@pytest.mark.parametrize(
    "start",
    [
        b"\x94\x05",
        b"\x94\x9f",
        b"\x94\xa4rows\x01\xc6\xff\xff\xff\xff",
        b"\x94\xa4rows\xcf" + b"\xff" * 8 + b"\xc4\x01",
        b"\x94\xa4rows\x01\xc6" + (BODY_BYTES_MAX + 1).to_bytes(4, "big"),
        b"\x94\xdb\xff\xff\xff\xff",
    ],
)
def test_no_more_is_read_than_a_frame_may_have(start: bytes) -> None:
    asked: list[int] = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(-1 if size is None else size)
            return super().read(size)

    with pytest.raises(PrefixdbError):
        list(frames_of(Watched(start + bytes(1000))))
    assert min(asked) > 0 and max(asked) < 32


def test_a_file_is_refused_where_no_frame_begins_before_anybody_reads_one() -> None:
    frames = encode(pieces_of())
    cutting = frames_of(io.BytesIO(frames[0] + frames[1][:-1]))
    assert next(cutting) == frames[0]
    with pytest.raises(PrefixdbError) as refusal:
        next(cutting)
    assert refusal.value.metadata["place"] == f"frame 2 at byte {len(frames[0])}"


@pytest.mark.parametrize("size", [b"\x80", b"\xc0", b"\xd0\x01", b"\xff"])
def test_a_size_that_is_no_number_is_not_taken_for_one(size: bytes) -> None:
    with pytest.raises(Fault, match="size is not a number"):
        parse_frame(b"\x94\xa4rows" + size + b"\xc4\x00\xc4\x20" + bytes(32))


def test_there_are_enough_kinds() -> None:
    assert len(HOSTILE) >= 150
