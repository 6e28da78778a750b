"""The frames an archive is made of, and the chain of digests that holds them together.

    archive := frame*                                       a plain msgpack stream, nothing between the frames
    frame   := [kind str, raw_bytes uint, body bin, digest bin(32)]
    digest  := SHA-256(digest of the frame before + kind + raw_bytes as u64 big-endian + body)

The digest before the first frame is SHA-256("prefixdb archive 1"). ``body`` is the frame's content as it is or
compressed with zstd; the digest covers what stands in the file, so no flipped bit passes, and it is checked before
anything is decompressed. The chain shows damage and cuts; it is no signature.

A frame's head is read by hand: msgpack's own reader would first take in whatever a hostile length promises.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import msgpack

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import ARCHIVE_FRAME_BYTES_MAX, ARCHIVE_ROW_BYTES_CEILING, KIB

__all__ = [
    "BODY_BYTES_MAX",
    "KINDS",
    "START_DIGEST",
    "Fault",
    "Frame",
    "chain",
    "damaged",
    "encode_frame",
    "frames_of",
    "next_frame",
    "parse_frame",
    "place_of",
]

KINDS = ("header", "groups", "members", "rows", "footer")
"""Kinds of frames, in the order they come in."""

START_DIGEST = hashlib.sha256(b"prefixdb archive 1").digest()
"""What stands for the digest in front of the first frame."""

BODY_BYTES_MAX = ARCHIVE_ROW_BYTES_CEILING + 16 * KIB
"""Longest body: what does not compress grows by 3 bytes in 128 KiB."""

_LENGTH = struct.Struct(">Q")
_WIDTHS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_BIN_WIDTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4}

Read = Callable[[int], bytes]


class Fault(ValueError):
    """What is wrong with a piece of an archive, as a sentence. A reader adds the place; for a writer it is a mistake of
    ours. Never holds a key, a value or a name.
    """


class Frame(NamedTuple):
    """One frame, its body as it stands in the file."""

    kind: str
    raw_bytes: int
    body: bytes
    digest: bytes

    def __repr__(self) -> str:
        return f"Frame(kind={self.kind!r}, raw_bytes={self.raw_bytes})"


def place_of(number: int, offset: int) -> str:
    """Return how a frame's place is told: its number from 1 and its first byte from 0."""
    return f"frame {number} at byte {offset}"


def damaged(place: str, what: str) -> PrefixdbError:
    """Return ARCHIVE_INVALID at ``place``; ``what`` is a whole sentence."""
    return error(Reason.ARCHIVE_INVALID, f"The archive is invalid at {place}: {what}", metadata={"place": place})


def chain(before: bytes, kind: str, raw_bytes: int, body: bytes) -> bytes:
    """Return the digest of a frame that comes after one with the digest ``before``."""
    digest = hashlib.sha256(before + kind.encode() + _LENGTH.pack(raw_bytes))
    digest.update(body)
    return digest.digest()


def encode_frame(frame: Frame) -> bytes:
    """Return the bytes of a frame."""
    packed: bytes = msgpack.packb(tuple(frame), use_bin_type=True)
    return packed


def parse_frame(data: bytes) -> Frame:
    """Return the one frame that ``data`` is; its digest and its body are not looked at.

    Raises:
        Fault: it is no frame, or more than one.
    """
    file = io.BytesIO(data)
    frame = _parse(_exactly(file))
    if file.tell() != len(data):
        raise Fault("There are bytes behind the frame.")
    return frame


def next_frame(before: bytes, data: bytes) -> Frame:
    """Return the frame that ``data`` is when it comes after one with the digest ``before``; its body is not looked at.

    Raises:
        Fault: it is no frame, or another one belongs here.
    """
    frame = parse_frame(data)
    if not hmac.compare_digest(chain(before, frame.kind, frame.raw_bytes, frame.body), frame.digest):
        raise Fault("The digest does not fit: bytes were changed, or frames are missing.")
    return frame


def frames_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield each frame of a file as the bytes that stand there; give them to an ``ArchiveReader`` to check them.

    Memory: one frame, about 16 MiB at most. The file may be a pipe; it is read to its end.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID at the first place where no frame begins, or one is cut short.
    """
    number, offset = 1, 0
    while True:
        parts: list[bytes] = []
        read = _exactly(file)

        def kept(count: int, read: Read = read, parts: list[bytes] = parts) -> bytes:
            parts.append(read(count))
            return parts[-1]

        first = file.read(1)
        if not first:
            return
        parts.append(first)
        try:
            _parse(kept, first)
        except Fault as fault:
            raise damaged(place_of(number, offset), str(fault)) from None
        yield b"".join(parts)
        number += 1
        offset += sum(map(len, parts))


def _exactly(file: BinaryIO) -> Read:
    """Return a function that reads exactly so many bytes."""

    def read(count: int) -> bytes:
        data = file.read(count)
        if len(data) == count:
            return data
        parts = [data]
        missing = count - len(data)
        while missing:
            data = file.read(missing)
            if not data:
                raise Fault("The frame is cut short.")
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    return read


def _parse(read: Read, first: bytes = b"") -> Frame:
    """Read one frame; ``first`` is its first byte when that has been read already."""
    if (first or read(1)) != b"\x94":
        raise Fault("No frame begins here; this is no archive, or it is damaged.")
    length = read(1)[0] - 0xA0
    if not 0 < length < 0x20:
        raise Fault("The frame's kind is no short text.")
    kind = read(length).decode("latin-1")
    if kind not in KINDS:
        raise Fault("The frame is of an unknown kind.")
    raw_bytes = _uint(read)
    if raw_bytes > (ARCHIVE_ROW_BYTES_CEILING if kind == "rows" else ARCHIVE_FRAME_BYTES_MAX):
        raise Fault("The frame promises more content than a frame may have.")
    width = _BIN_WIDTHS.get(read(1)[0])
    if width is None:
        raise Fault("The frame's body is not binary.")
    size = int.from_bytes(read(width), "big")
    if size > BODY_BYTES_MAX:
        raise Fault("The frame's body is longer than a frame may be.")
    body = read(size)
    if read(2) != b"\xc4\x20":
        raise Fault("The frame's digest is not 32 bytes.")
    return Frame(kind, raw_bytes, body, read(32))


def _uint(read: Read) -> int:
    head = read(1)[0]
    if head < 0x80:
        return head
    width = _WIDTHS.get(head)
    if width is None:
        raise Fault("The frame's size is not a number.")
    return int.from_bytes(read(width), "big")
