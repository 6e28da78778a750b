"""Archives for tests, right ones and damaged ones, made without the code under test.

``encode`` builds the bytes with msgpack, hashlib and zstandard alone, so that it can also build what no writer would;
``archives_hostile`` does.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgpack
import zstandard

__all__ = [
    "FRAME_BYTES",
    "FRAME_ROWS",
    "GROUP",
    "LAST_VERSION",
    "MEMBER",
    "Piece",
    "Row",
    "archive",
    "encode",
    "flips",
    "footer_piece",
    "header_fields",
    "packed",
    "pieces_of",
    "rows_piece",
    "sample_rows",
]

LAST_VERSION = 10_000
FRAME_BYTES = 1024 * 1024
FRAME_ROWS = 8192

Row = tuple[bytes, bytes, int, int]


class Piece(NamedTuple):
    """One frame before it is written.

    content: what it holds.
    raw_bytes: what the frame promises; None for the truth.
    body: what stands in the file; None for the content, compressed as the codec says.
    """

    kind: str
    content: bytes
    raw_bytes: int | None = None
    body: bytes | None = None


def packed(value: Any) -> bytes:
    """Return msgpack."""
    data: bytes = msgpack.packb(value, use_bin_type=True)
    return data


def header_fields(**changes: Any) -> dict[str, Any]:
    """Return the fields of a good header of a whole namespace, with changes; a change to ... leaves the field out."""
    fields: dict[str, Any] = {
        "format": 1,
        "kind": "namespace",
        "codec": "zstd",
        "sorted": True,
        "created_at_ms": 1_700_000_000_000,
        "server": "prefixdb 0.1.0",
        "namespace_id": "7",
        "namespace": "acme",
        "incarnation": "500",
        "labels": {"plan": "gold"},
        "database": None,
        "prefix": b"",
        "last_version": LAST_VERSION,
    }
    fields.update(changes)
    return {name: value for name, value in fields.items() if value is not ...}


def sample_rows(count: int, *, first: int = 0, seed: int = 1) -> list[Row]:
    """Return rows in order, some with a lifetime, some binary."""
    draw = random.Random(seed)
    return [
        (
            b"user/%06d" % number,
            draw.randbytes(draw.randrange(40)) if number % 3 else b"alice %d" % number,
            1 + draw.randrange(LAST_VERSION),
            0 if number % 5 else 1_800_000_000_000 + number,
        )
        for number in range(first, first + count)
    ]


GROUP = ["editors", [[0, b"doc/", True, True], [None, b"", True, False]]]
MEMBER = {
    "name": "alice",
    "groups": ["editors", "readers"],
    "password_hash": "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
    "disabled": False,
    "created_at_ms": 1_600_000_000_000,
    "updated_at_ms": 1_600_000_000_001,
    "password_changed_at_ms": 1_600_000_000_002,
}


def rows_piece(database: int, rows: Sequence[Any]) -> Piece:
    """Return a frame of rows."""
    return Piece("rows", packed([database, rows]))


def footer_piece(rows: int, groups: int, members: int, max_version: int) -> Piece:
    """Return a footer."""
    return Piece("footer", packed({"rows": rows, "groups": groups, "members": members, "max_version": max_version}))


def encode(pieces: Sequence[Piece], codec: str = "zstd") -> list[bytes]:
    """Return the frames with a right chain of digests."""
    digest = hashlib.sha256(b"prefixdb archive 1").digest()
    frames = []
    for piece in pieces:
        body = piece.body
        if body is None:
            packs = codec == "zstd" and piece.kind != "header"
            body = zstandard.ZstdCompressor().compress(piece.content) if packs else piece.content
        raw_bytes = len(piece.content) if piece.raw_bytes is None else piece.raw_bytes
        size = struct.pack(">Q", raw_bytes) if raw_bytes < 2**64 else b""
        digest = hashlib.sha256(digest + piece.kind.encode() + size + body).digest()
        frames.append(packed([piece.kind, raw_bytes, body, digest]))
    return frames


def pieces_of(*, codec: str = "zstd", rows: int = 40) -> list[Piece]:
    """Return the pieces of a good archive: header, groups, members, two of rows in database 0, one in 3, footer."""
    first, second = sample_rows(rows), sample_rows(rows // 2, seed=2)
    greatest = max((row[2] for row in first + second), default=0)
    return [
        Piece("header", packed(header_fields(codec=codec))),
        Piece("groups", packed([GROUP])),
        Piece("members", packed([MEMBER])),
        *(
            [rows_piece(0, first[: rows // 2]), rows_piece(0, first[rows // 2 :]), rows_piece(3, second)]
            if rows
            else []
        ),
        footer_piece(len(first) + len(second), 1, 1, greatest),
    ]


def archive(*, codec: str = "zstd", rows: int = 40) -> bytes:
    """Return a good archive as the bytes of its file."""
    return b"".join(encode(pieces_of(codec=codec, rows=rows), codec))


def flips(data: bytes, count: int, seed: int = 1) -> Iterator[tuple[int, bytes]]:
    """Yield ``count`` times (position, the data with one byte at that position changed)."""
    draw = random.Random(seed)
    for _ in range(count):
        position = draw.randrange(len(data))
        changed = bytearray(data)
        changed[position] ^= draw.randrange(1, 256)
        yield position, bytes(changed)
