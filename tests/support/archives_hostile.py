"""Archives that must be refused, each of one kind.

``HOSTILE`` maps the name of a kind to a function that makes the file and tells the number of the frame that must be
refused; the chain of digests is right unless that is the point.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgpack
import zstandard

from tests.support.archives import (
    FRAME_BYTES,
    FRAME_ROWS,
    GROUP,
    LAST_VERSION,
    MEMBER,
    Piece,
    Row,
    archive,
    encode,
    footer_piece,
    header_fields,
    packed,
    pieces_of,
    rows_piece,
)

__all__ = ["HOSTILE", "Hostile"]


class Hostile(NamedTuple):
    """A file that must be refused at a frame, counted from 1."""

    data: bytes
    frame: int


HOSTILE: dict[str, Callable[[], Hostile]] = {}


def _hostile(name: str, make: Callable[[], Hostile]) -> None:
    assert name not in HOSTILE
    HOSTILE[name] = make


def _of(pieces: Sequence[Piece], frame: int) -> Hostile:
    return Hostile(b"".join(encode(pieces)), frame)


def _with_header(**changes: Any) -> Callable[[], Hostile]:
    return lambda: _of([Piece("header", packed(header_fields(**changes))), *pieces_of()[1:]], 1)


def _with_piece(place: int, *pieces: Piece) -> Callable[[], Hostile]:
    """A good archive whose frame at ``place`` (from 1) is replaced; the first of the new ones is to be refused."""

    def make() -> Hostile:
        good = pieces_of()
        return _of([*good[: place - 1], *pieces, *good[place:]], place)

    return make


def _with_rows(*rows: Any, database: Any = 0, frame: int = 1) -> Callable[[], Hostile]:
    """A small export with one frame of these rows."""

    def make() -> Hostile:
        head = Piece("header", packed(header_fields(kind="export")))
        return _of([head, rows_piece(database, list(rows)), footer_piece(len(rows), 0, 0, 1)], frame + 1)

    return make


def _export(header: dict[str, Any], pieces: Sequence[Piece], frame: int) -> Callable[[], Hostile]:
    return lambda: _of([Piece("header", packed(header_fields(kind="export", **header))), *pieces], frame)


def _spoilt(frame: int, spoil: Callable[[bytes], bytes]) -> Callable[[], Hostile]:
    """A good archive in which the bytes of one frame are changed after the digests were made."""

    def make() -> Hostile:
        frames = encode(pieces_of())
        frames[frame - 1] = spoil(frames[frame - 1])
        return Hostile(b"".join(frames), frame)

    return make


def _rearranged(frame: int, order: Callable[[list[bytes]], list[bytes]]) -> Callable[[], Hostile]:
    return lambda: Hostile(b"".join(order(encode(pieces_of()))), frame)


def _zstd(content: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(content)


def _streamed(content: bytes) -> bytes:
    """A zstd frame whose head does not say how long its content is."""
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return packer.compress(content) + packer.flush()


def _lying_size(content: bytes, size: int) -> bytes:
    """A zstd frame whose head promises another size: magic, descriptor with an 8-byte size, window, size."""
    block = struct.pack("<I", 1 | len(content) << 3)[:3] + content
    return b"\x28\xb5\x2f\xfd\xc0\x58" + struct.pack("<Q", size) + block


def _nest(depth: int) -> bytes:
    """Return a list of four lists of four lists of ...: 5.6 MB at depth 11, and more than 120 MB in memory."""
    node = b"\x90"
    for _ in range(depth):
        node = b"\x94" + node * 4
    return node


for _name, _changes in {
    "header: format 0": {"format": 0},
    "header: format as text": {"format": "1"},
    "header: format true": {"format": True},
    "header: field missing": {"labels": ...},
    "header: unknown field": {"path": "../../etc/passwd"},
    "header: unknown kind": {"kind": "backup"},
    "header: kind is no text": {"kind": 1},
    "header: unknown codec": {"codec": "gzip"},
    "header: codec is a list": {"codec": ["zstd"]},
    "header: sorted is a number": {"sorted": 1},
    "header: unsorted namespace": {"sorted": False},
    "header: id as number": {"namespace_id": 7},
    "header: id with a leading zero": {"namespace_id": "07"},
    "header: id with a sign": {"namespace_id": "+7"},
    "header: id with an underscore": {"namespace_id": "1_0"},
    "header: id in other digits": {"namespace_id": "٧"},
    "header: empty id": {"namespace_id": ""},
    "header: id that is never issued": {"namespace_id": str(2**64 - 1)},
    "header: incarnation beyond 64 bits": {"incarnation": str(2**64)},
    "header: name too long": {"namespace": "n" * 129},
    "header: too many labels": {"labels": {str(number): "" for number in range(65)}},
    "header: label too long": {"labels": {"a": "b" * 257}},
    "header: label is binary": {"labels": {"a": b"b"}},
    "header: labels are a list": {"labels": []},
    "header: negative time": {"created_at_ms": -1},
    "header: database of a namespace": {"database": 0},
    "header: prefix without database": {"kind": "export", "prefix": b"a"},
    "header: prefix too long": {"kind": "export", "database": 0, "prefix": b"a" * 4097},
    "header: prefix is text": {"kind": "export", "database": 0, "prefix": "a"},
    "header: database out of range": {"kind": "export", "database": 65536},
    "header: database true": {"kind": "export", "database": True},
    "header: float version": {"last_version": 1e9},
    "header: plain rows with a version": {"kind": "rows"},
}.items():
    _hostile(_name, _with_header(**_changes))

_HEADER = packed(header_fields())
_hostile("header: compressed", _with_piece(1, Piece("header", _HEADER, body=_zstd(_HEADER))))
_hostile("header: size is a lie", _with_piece(1, Piece("header", _HEADER, raw_bytes=len(_HEADER) + 1)))
_hostile("header: trailing bytes", _with_piece(1, Piece("header", _HEADER + b"\xc0")))
_hostile("header: is a list", _with_piece(1, Piece("header", packed([1]))))
_hostile("header: a name twice", _with_piece(1, Piece("header", b"\x8e" + _HEADER[1:] + packed("format") + packed(1))))
_hostile("header: missing", lambda: _of(pieces_of()[1:], 1))
_hostile("header: twice", _with_piece(2, pieces_of()[0]))

_hostile("groups: in an export", _export({}, [Piece("groups", packed([GROUP]))], 2))
_hostile("members: in an export", _export({}, [Piece("members", packed([MEMBER]))], 2))
_hostile("groups: behind members", lambda: _of([pieces_of()[place] for place in (0, 2, 1, 6)], 3))
_hostile("members: behind rows", lambda: _of([pieces_of()[place] for place in (0, 3, 2, 6)], 3))

for _name, _value in {
    "none": [],
    "no list": {"a": 1},
    "built in": [["guardians", []]],
    "empty name": [["", []]],
    "name too long": [["g" * 129, []]],
    "name is binary": [[b"g", []]],
    "twice": [GROUP, GROUP],
    "not ascending": [["b", []], ["a", []]],
    "entry of three": [["g", [], 1]],
    "rules are a map": [["g", {}]],
    "rule of five": [["g", [[0, b"", True, True, True]]]],
    "too many rules": [["g", [[0, b"", True, True]] * 65]],
    "prefix too long": [["g", [[0, b"p" * 4097, True, True]]]],
    "prefixes too long together": [["g", [[0, b"p" * 4096, True, True]] * 5]],
    "database out of range": [["g", [[65536, b"", True, True]]]],
    "permission is a number": [["g", [[0, b"", 1, True]]]],
}.items():
    _hostile(f"groups: {_name}", _with_piece(2, Piece("groups", packed(_value))))
_hostile("groups: twice in two frames", lambda: _of([pieces_of()[place] for place in (0, 1, 1, 2, 6)], 3))

for _name, _value in {
    "none": [],
    "no list": 7,
    "entry is a list": [["alice"]],
    "twice": [MEMBER, MEMBER],
    "unknown field": [{**MEMBER, "privileges": [1]}],
    "field missing": [{name: MEMBER[name] for name in list(MEMBER)[1:]}],
    "empty name": [{**MEMBER, "name": ""}],
    "name is a number": [{**MEMBER, "name": 7}],
    "groups are text": [{**MEMBER, "groups": "editors"}],
    "too many groups": [{**MEMBER, "groups": ["g"] * 33}],
    "group is binary": [{**MEMBER, "groups": [b"g"]}],
    "password in the clear": [{**MEMBER, "password_hash": "hunter2"}],
    "password hash too long": [{**MEMBER, "password_hash": "$argon2id$" + "A" * 600}],
    "disabled is a number": [{**MEMBER, "disabled": 0}],
    "negative time": [{**MEMBER, "updated_at_ms": -1}],
}.items():
    _hostile(f"members: {_name}", _with_piece(3, Piece("members", packed(_value))))
_hostile("members: twice in two frames", lambda: _of([pieces_of()[place] for place in (0, 2, 2, 6)], 3))

_GOOD: Row = (b"k", b"v", 1, 0)
for _name, _rows in {
    "none": [],
    "row of three": [_GOOD[:3]],
    "row of five": [(*_GOOD, 0)],
    "row is a map": [{}],
    "row is nil": [None],
    "row is bytes": [b"four"],
    "key is text": [("k", b"v", 1, 0)],
    "key is empty": [(b"", b"v", 1, 0)],
    "key is too long": [(b"k" * 4097, b"v", 1, 0)],
    "key is a list": [([], b"v", 1, 0)],
    "value is nil": [(b"k", None, 1, 0)],
    "value is text": [(b"k", "v", 1, 0)],
    "value is a map": [(b"k", {}, 1, 0)],
    "version 0": [(b"k", b"v", 0, 0)],
    "version beyond the header's": [(b"k", b"v", LAST_VERSION + 1, 0)],
    "negative version": [(b"k", b"v", -1, 0)],
    "version true": [(b"k", b"v", True, 0)],
    "version is a float": [(b"k", b"v", 1.0, 0)],
    "negative end of life": [(b"k", b"v", 1, -1)],
    "end of life beyond 63 bits": [(b"k", b"v", 1, 2**63)],
    "end of life is false": [(b"k", b"v", 1, False)],
    "key is an extension": [(msgpack.ExtType(1, b"k"), b"v", 1, 0)],
    "key is an empty extension": [(msgpack.ExtType(1, b""), b"v", 1, 0)],
    "key is a time": [(msgpack.Timestamp(1), b"v", 1, 0)],
    "descending": [(b"b", b"v", 1, 0), (b"a", b"v", 1, 0)],
    "a key twice": [_GOOD, _GOOD],
    "the last is bad": [(b"%04d" % number, b"v", 1, 0) for number in range(1000)] + [(b"x", b"v", 0, 0)],
    "too many in a frame": [(b"%05d" % number, b"", 1, 0) for number in range(FRAME_ROWS + 1)],
    "too much in a frame": [(b"a", bytes(FRAME_BYTES // 2), 1, 0), (b"b", bytes(FRAME_BYTES // 2), 1, 0)],
}.items():
    _hostile(f"rows: {_name}", _with_rows(*_rows))
_hostile("rows: a value too long", _with_rows((b"k", bytes(16 * FRAME_BYTES - 64 * 1024 + 1), 1, 0)))
for _database in (65536, -1, True, None, "0", 1.5):
    _hostile(f"rows: database {_database!r}", _with_rows(_GOOD, database=_database))
_hostile("rows: a key twice in two frames", _export({}, [rows_piece(0, [_GOOD])] * 2, 3))
_hostile("rows: databases descend", _export({}, [rows_piece(1, [_GOOD]), rows_piece(0, [_GOOD])], 3))
_hostile("rows: outside the database", _export({"database": 1}, [rows_piece(2, [_GOOD])], 2))
_hostile(
    "rows: outside the prefix",
    _export({"database": 0, "prefix": b"k"}, [rows_piece(0, [_GOOD, (b"l", b"v", 1, 0)])], 2),
)
_hostile(
    "rows: versions in plain rows",
    lambda: _of(
        [Piece("header", packed(header_fields(kind="rows", last_version=0))), rows_piece(0, [_GOOD])],
        2,
    ),
)
_hostile("rows: a deep nest", _with_piece(4, Piece("rows", b"\x92\x00" + b"\x91" * 100_000 + b"\x90")))
_hostile("rows: a promise of 2^32 rows", _with_piece(4, Piece("rows", b"\x92\x00\xdd\xff\xff\xff\xff")))
_hostile("rows: a promise of 2^32 bytes", _with_piece(4, Piece("rows", b"\x92\x00\x91\x94\xc6\xff\xff\xff\xff")))
_hostile(
    "rows: lists of lists",
    _with_piece(4, Piece("rows", b"\x92\x00\xdc\x20\x00" + (b"\x91" * 120 + b"\x90") * FRAME_ROWS)),
)
for _name, _place, _leaf in (("groups", 2, b"\x90"), ("members", 3, b"\x80"), ("rows", 4, b"\x91\x90")):
    _many = (b"\xdc\x10\x00" + _leaf * 4096) * (126 * 2 // len(_leaf))
    _hostile(f"{_name}: a mebibyte of nothing", _with_piece(_place, Piece(_name, b"\xdc\x00\xfc" + _many)))
_hostile("rows: empty maps", _with_piece(4, Piece("rows", b"\x92\x00\xdc\x20\x00" + b"\x80" * FRAME_ROWS)))
_hostile(
    "rows: lists of lists where one large row belongs",
    _with_piece(4, Piece("rows", b"\x92\x00" + _nest(11))),
)
_hostile("rows: trailing bytes", _with_piece(4, Piece("rows", packed([0, [_GOOD]]) + b"\x00")))
_hostile("rows: nothing", _with_piece(4, Piece("rows", b"")))

_CONTENT = packed([0, [_GOOD]])
for _name, _body, _promise in (
    ("not zstd", b"not compressed", len(_CONTENT)),
    ("empty", b"", len(_CONTENT)),
    ("cut", _zstd(_CONTENT)[:-2], len(_CONTENT)),
    ("bytes behind it", _zstd(_CONTENT) + b"\x00", len(_CONTENT)),
    ("two of them", _zstd(_CONTENT) * 2, 2 * len(_CONTENT)),
    ("a frame to be skipped first", b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd" + _zstd(_CONTENT), len(_CONTENT)),
    ("size not told", _streamed(_CONTENT), len(_CONTENT)),
    ("promise too small", _zstd(_CONTENT), len(_CONTENT) - 1),
    ("promise too large", _zstd(_CONTENT), len(_CONTENT) + 1),
    ("head promises a terabyte", _lying_size(_CONTENT, 2**40), len(_CONTENT)),
    ("head and frame promise the ceiling", _lying_size(_CONTENT, 15 * FRAME_BYTES), 15 * FRAME_BYTES),
    ("head promises less than there is", _lying_size(_CONTENT, 4), 4),
    ("a bomb of 15 MiB", _zstd(bytes(15 * FRAME_BYTES)), 15 * FRAME_BYTES),
    ("a bomb of 1 GiB", _zstd(bytes(1024 * FRAME_BYTES)), len(_CONTENT)),
):
    _hostile(f"body: {_name}", _with_piece(4, Piece("rows", _CONTENT, raw_bytes=_promise, body=_body)))
_hostile(
    "body: an honest bomb",
    _with_piece(4, Piece("rows", b"", raw_bytes=256 * FRAME_BYTES, body=_zstd(bytes(256 * FRAME_BYTES)))),
)
_hostile("body: promise beyond the ceiling", _with_piece(4, Piece("rows", _CONTENT, raw_bytes=2**24)))
_hostile("body: promise of 2^64-1", _with_piece(4, Piece("rows", _CONTENT, raw_bytes=2**64 - 1)))
_hostile("body: groups as large as a value", _with_piece(2, Piece("groups", bytes(FRAME_BYTES + 1))))
_hostile("body: longer than a frame may be", _with_piece(4, Piece("rows", b"", body=bytes(16 * FRAME_BYTES))))

_hostile("frame: unknown kind", _with_piece(4, Piece("files", _CONTENT)))
_hostile("frame: empty kind", _with_piece(4, Piece("", _CONTENT)))
_hostile("frame: long kind", _with_piece(4, Piece("rows" * 20, _CONTENT)))
_hostile("frame: of five", _spoilt(4, lambda frame: b"\x95" + frame[1:] + b"\xc0"))
_hostile("frame: of three", _spoilt(4, lambda frame: b"\x93" + frame[1:-34]))
_hostile("frame: size is text", _spoilt(4, lambda _: packed(["rows", "1", b"", bytes(32)])))
_hostile("frame: negative size", _spoilt(4, lambda _: packed(["rows", -1, b"", bytes(32)])))
_hostile("frame: body is text", _spoilt(4, lambda _: packed(["rows", 1, "x", bytes(32)])))
_hostile("frame: digest of 31", _spoilt(4, lambda _: packed(["rows", 1, b"x", bytes(31)])))
_hostile("frame: digest of zeros", _spoilt(4, lambda frame: frame[:-32] + bytes(32)))
_hostile("frame: promises 4 GiB", _spoilt(4, lambda _: b"\x94" + packed("rows") + b"\x01\xc6\xff\xff\xff\xff"))
_hostile("frame: a megabyte of brackets", _spoilt(4, lambda _: b"\x94" * FRAME_BYTES))
_hostile("frame: bytes between", _spoilt(4, lambda frame: b"\x00" + frame))
_hostile("chain: two exchanged", _rearranged(4, lambda frames: [*frames[:3], frames[4], frames[3], *frames[5:]]))
_hostile("chain: one missing", _rearranged(4, lambda frames: [*frames[:3], *frames[4:]]))
_hostile("chain: one twice", _rearranged(5, lambda frames: [*frames[:4], *frames[3:]]))
_hostile(
    "chain: one of another", _rearranged(5, lambda frames: [*frames[:3], encode(pieces_of(rows=8))[3], *frames[4:]])
)
_hostile("chain: one behind the footer", lambda: _of([*pieces_of(), pieces_of()[3]], 8))
_hostile("chain: two archives in one", _rearranged(8, lambda frames: frames * 2))
_hostile("chain: bytes behind the footer", _rearranged(8, lambda frames: [*frames, b"\n"]))
_hostile("cut: no footer", _rearranged(7, lambda frames: frames[:-1]))
_hostile("cut: only a header", _rearranged(2, lambda frames: frames[:1]))
_hostile("cut: in a frame", _rearranged(5, lambda frames: [*frames[:4], frames[4][:50]]))
_hostile("cut: the last byte", _rearranged(7, lambda frames: [*frames[:-1], frames[-1][:-1]]))
for _name, _footer in {
    "rows": (61, 1, 1, 9900),
    "groups": (60, 2, 1, 9900),
    "members": (60, 1, 0, 9900),
    "greatest version": (60, 1, 1, 9_999_999),
}.items():
    _hostile(f"footer: wrong number, {_name}", _with_piece(7, footer_piece(*_footer)))
_hostile("footer: unknown field", _with_piece(7, Piece("footer", packed({"rows": 60, "extra": 1}))))
_hostile(
    "footer: a float",
    _with_piece(
        7, Piece("footer", packed({**dict.fromkeys(("groups", "members"), 1), "rows": 60.0, "max_version": 1}))
    ),
)
_hostile("file: empty", lambda: Hostile(b"", 1))
_hostile("file: text", lambda: Hostile(b'{"key": "a", "value": "b"}\n', 1))
_hostile("file: zstd", lambda: Hostile(_zstd(archive()), 1))
_hostile("file: zeros", lambda: Hostile(bytes(10_000), 1))
