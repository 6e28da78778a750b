"""The engine's MANIFEST, read and written without the engine: which table files make up the database.

A recovery has to know what was lost, and the engine only says that something is wrong. The MANIFEST says which table
files are in use, the keys and commits each holds, and the last commit; an obsolete file that is still lying there is
not in it, so its rows cannot come back. What is written is a MANIFEST of one record that names the files that are left.

    file    := blocks of 32 KiB, each := fragment* | zeros
    fragment:= masked crc32c u32 | length u16 | type u8 (1 whole, 2 first, 3 middle, 4 last) | bytes; little-endian
    record  := (tag varint, field)*; tags from 8,192 up have a length in front and may be skipped

Source: RocksDB 7.8 and 9.8, ``db/log_format.h`` and ``db/version_edit.h``. Unknown tags, other column families than
the default and other comparators than the plain one are refused: prefixdb writes none of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

MANIFEST_PREFIX = "MANIFEST-"
CURRENT_NAME = "CURRENT"

_COMPARATOR = b"leveldb.BytewiseComparator"
_BLOCK = 32 * 1024
_FRAGMENT = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_KEY_TRAILER = 8
"""Behind a key in the engine's own order: sequence number and kind."""

_SKIPPABLE = 1 << 13
_TERMINATE = 1
_TAGS_WITH_NUMBER = {2: "log_number", 3: "next_file", 4: "last_sequence", 9: "", 10: "log_number", 203: "", 300: ""}
_TAGS_WITH_BYTES = {1: "comparator", 400: "", 401: ""}
_COMPACT_CURSOR, _DELETED_FILE, _NEW_FILE, _FAMILY = 5, 6, 103, 200
_FAMILY_CHANGES = (201, 202)


@dataclass(frozen=True, slots=True)
class TableFile:
    """One table file of a database.

    first_key, last_key: both inside it. first_sequence, last_sequence: of its rows; commits are numbered by them.
    entry: its bytes in the MANIFEST, to be written again as they are.
    """

    number: int
    level: int
    size: int
    first_key: bytes
    last_key: bytes
    first_sequence: int
    last_sequence: int
    entry: bytes

    @property
    def name(self) -> str:
        """Its file name."""
        return table_name(self.number)


@dataclass(slots=True)
class Versions:
    """What a MANIFEST says, up to its end or its first damage.

    files: in use, by number. deleted: were in use once. log_number: write-ahead logs below it are not needed.
    good_bytes: length of the part that was understood. problem: what is wrong behind it; empty at a clean end.
    """

    files: dict[int, TableFile] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    log_number: int = 0
    next_file: int = 0
    last_sequence: int = 0
    comparator: bytes = b""
    good_bytes: int = 0
    problem: str = ""

    @property
    def sound(self) -> bool:
        """True when something was read and there was no damage."""
        return not self.problem and self.comparator == _COMPARATOR


class _DamageError(Exception):
    """What is wrong, for a person."""


def table_name(number: int) -> str:
    """Return the name of a table file."""
    return f"{number:06d}.sst"


def read_versions(path: Path) -> Versions:
    """Return what a MANIFEST says. Never raises for its content: damage ends it, and is told in ``problem``.

    Cost: some 5 MiB a second, for the checksums.

    Raises:
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    versions = Versions()
    fragments: list[bytes] = []
    offset = 0
    try:
        while offset < len(content):
            room = _BLOCK - offset % _BLOCK
            if room < _FRAGMENT.size:
                offset += room
                continue
            kind, body, end = _fragment(content, offset, offset + room)
            if kind == 0 and not any(content[offset : offset + room]):
                offset += room
                continue
            fragments = _joined(fragments, kind, body)
            offset = end
            if kind in (_WHOLE, _LAST):
                _apply(versions, b"".join(fragments))
                fragments = []
                versions.good_bytes = offset
        if fragments:
            raise _DamageError("its last record is cut short")
        if versions.comparator != _COMPARATOR:
            raise _DamageError("it names no comparator" if not versions.comparator else "it has another comparator")
    except _DamageError as damage:
        versions.problem = f"{damage} (at byte {versions.good_bytes} of {len(content)})"
    return versions


def write_versions(directory: Path, number: int, versions: Versions) -> str:
    """Make ``directory`` the database of ``versions``: write its MANIFEST and CURRENT; return the MANIFEST's name.

    Args:
        directory: holds the table files and the logs.
        number: of the MANIFEST; larger than that of any file there.
        versions: what to write; files behind ``number`` are not allowed.
    """
    record = [
        _varint(1) + _bytes(_COMPARATOR),
        _varint(2) + _varint(versions.log_number),
        _varint(3) + _varint(max(versions.next_file, number + 1)),
        _varint(4) + _varint(versions.last_sequence),
        *(versions.files[known].entry for known in sorted(versions.files)),
    ]
    name = f"{MANIFEST_PREFIX}{number:06d}"
    (directory / name).write_bytes(_framed(b"".join(record), 0))
    (directory / CURRENT_NAME).write_text(f"{name}\n", encoding="ascii")
    return name


def raise_sequence(manifest: Path, sequence: int) -> None:
    """Append to the MANIFEST of a closed database that its last commit had at least this number.

    Commits made from then on have larger ones. Nothing is written when that is so already.
    """
    versions = read_versions(manifest)
    if versions.problem:
        raise ValueError(f"{manifest}: {versions.problem}")
    if versions.last_sequence >= sequence:
        return
    with manifest.open("r+b") as file:
        # Behind the last record: what follows may be space that the engine took in advance.
        file.truncate(versions.good_bytes)
        file.seek(versions.good_bytes)
        file.write(_framed(_varint(4) + _varint(sequence), versions.good_bytes))


def first_sequence(log: Path) -> int:
    """Return the number of the first commit in a write-ahead log; 0 when it has none that can be read.

    Raises:
        OSError: it cannot be read.
    """
    with log.open("rb") as file:
        head = file.read(_BLOCK)
    try:
        _, body, _ = _fragment(head, 0, len(head))
    except _DamageError:
        return 0
    return int.from_bytes(body[:8], "little") if len(body) > 8 else 0


# --- fragments -----------------------------------------------------------------------------------------------------


def _fragment(content: bytes, offset: int, block_end: int) -> tuple[int, bytes, int]:
    """Return (type, bytes, end) of the fragment at ``offset``."""
    if offset + _FRAGMENT.size > len(content):
        raise _DamageError("it ends inside a record")
    masked, length, kind = _FRAGMENT.unpack_from(content, offset)
    if kind == 0 and length == 0:
        return 0, b"", block_end
    begin = offset + _FRAGMENT.size
    if begin + length > block_end:
        raise _DamageError("a record's length is wrong")
    if begin + length > len(content):
        raise _DamageError("it ends inside a record")
    body = content[begin : begin + length]
    if _masked(_crc32c(bytes([kind]) + body)) != masked:
        raise _DamageError("a record's checksum is wrong")
    return kind, body, begin + length


def _joined(before: list[bytes], kind: int, body: bytes) -> list[bytes]:
    if kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST) or (kind in (_WHOLE, _FIRST)) == bool(before):
        raise _DamageError("its records are out of order")
    return [*before, body]


def _framed(record: bytes, offset: int) -> bytes:
    """Return a record as it stands in a file from ``offset`` on."""
    out = bytearray()
    begin = 0
    while begin < len(record) or not out:
        room = _BLOCK - (offset + len(out)) % _BLOCK
        if room < _FRAGMENT.size:
            out += bytes(room)
            continue
        body = record[begin : begin + room - _FRAGMENT.size]
        first, last = begin == 0, begin + len(body) == len(record)
        kind = _WHOLE if first and last else _FIRST if first else _LAST if last else _MIDDLE
        out += _FRAGMENT.pack(_masked(_crc32c(bytes([kind]) + body)), len(body), kind) + body
        begin += len(body)
    return bytes(out)


# --- records -------------------------------------------------------------------------------------------------------


class _Reader:
    """A record being read."""

    def __init__(self, record: bytes) -> None:
        self.record = record
        self.offset = 0

    def number(self) -> int:
        value = shift = 0
        while shift < 64:
            if self.offset >= len(self.record):
                break
            byte = self.record[self.offset]
            self.offset += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise _DamageError("a record has no number where one should be")

    def blob(self) -> bytes:
        length = self.number()
        if self.offset + length > len(self.record):
            raise _DamageError("a record is shorter than it says")
        self.offset += length
        return self.record[self.offset - length : self.offset]

    def key(self) -> bytes:
        internal = self.blob()
        if len(internal) < _KEY_TRAILER:
            raise _DamageError("a key of a table file is too short")
        return internal[:-_KEY_TRAILER]


def _apply(versions: Versions, record: bytes) -> None:
    """Bring in one record, all of it or nothing."""
    reader = _Reader(record)
    numbers: dict[str, int] = {}
    added: list[TableFile] = []
    deleted: list[int] = []
    comparator = b""
    while reader.offset < len(record):
        begin = reader.offset
        tag = reader.number()
        if tag in _TAGS_WITH_NUMBER:
            name, value = _TAGS_WITH_NUMBER[tag], reader.number()
            numbers[name] = max(numbers.get(name, 0), value)
        elif tag in _TAGS_WITH_BYTES:
            value_bytes = reader.blob()
            comparator = value_bytes if _TAGS_WITH_BYTES[tag] else comparator
        elif tag == _COMPACT_CURSOR:
            reader.number()
            reader.blob()
        elif tag == _DELETED_FILE:
            reader.number()
            deleted.append(reader.number())
        elif tag == _NEW_FILE:
            added.append(_new_file(reader, begin))
        elif tag in _FAMILY_CHANGES or (tag == _FAMILY and reader.number() != 0):
            raise _DamageError("it has other column families than the default one")
        elif tag & _SKIPPABLE:
            reader.blob()
        elif tag != _FAMILY:
            raise _DamageError(f"it has a record with an unknown tag {tag}")
    for gone in deleted:
        versions.files.pop(gone, None)
    versions.deleted.update(deleted)
    for file in added:
        versions.files[file.number] = file
        versions.deleted.discard(file.number)
    versions.comparator = comparator or versions.comparator
    versions.log_number = max(versions.log_number, numbers.get("log_number", 0))
    versions.next_file = max(versions.next_file, numbers.get("next_file", 0))
    versions.last_sequence = max(versions.last_sequence, numbers.get("last_sequence", 0))


def _new_file(reader: _Reader, begin: int) -> TableFile:
    level, number, size = reader.number(), reader.number(), reader.number()
    first_key, last_key = reader.key(), reader.key()
    first_sequence, last_sequence = reader.number(), reader.number()
    while (tag := reader.number()) != _TERMINATE:
        del tag  # Age, temperature, checksum: the engine's business.
        reader.blob()
    entry = reader.record[begin : reader.offset]
    return TableFile(number, level, size, first_key, last_key, first_sequence, last_sequence, entry)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(value: bytes) -> bytes:
    return _varint(len(value)) + value


# --- checksums -----------------------------------------------------------------------------------------------------


def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC = _table()


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    """Return a checksum as the engine stores it, so that a checksum of a checksum means something."""
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF
