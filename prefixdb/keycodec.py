"""Physical keys: the only Python module that builds or takes apart the bytes RocksDB sees.

    row key := namespace u64 big-endian | family u8 | rest
    family 0 SYSTEM: rest = tag u8 | record key          never reachable through KeyValue
    family 1 DATA:   rest = database u16 big-endian | user key (1 .. 4096 bytes)

Big-endian integers make the byte order of row keys equal (namespace, family, database, user key), so that everything
a namespace owns is one contiguous span and so is a database or a prefix inside it. The fields in front of the user key
have a fixed width, so the layout is injective: no two different (namespace, database, user key) share a row key.

``prefixdb/_native/key_codec.h`` is the same in C++; ``tests/data/keycodec.json`` pins both.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NewType

from prefixdb.errors import Reason, error
from prefixdb.limits import DATABASE_MAX, KEY_BYTES_MAX, NAMESPACE_ID_MAX

RowKey = NewType("RowKey", bytes)
"""A physical key, as the store sees it."""

UserKey = NewType("UserKey", bytes)
"""A key as its owner sees it: without namespace, family and database."""

FAMILY_SYSTEM = 0
FAMILY_DATA = 1

_NAMESPACE = struct.Struct(">Q")
_DATA = struct.Struct(">QBH")
_SYSTEM = struct.Struct(">QBB")

DATA_HEAD_BYTES = _DATA.size
"""Bytes in front of the user key in a data row key."""


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of row keys, ``begin <= key < end``. ``begin == end`` is empty.

    Raises:
        InvalidArgumentError: BAD_RANGE when ``begin > end``. RocksDB must never see such a range: an inverted
            DeleteRange poisons the database (every later write is refused).
    """

    begin: RowKey
    end: RowKey

    def __post_init__(self) -> None:
        if self.begin > self.end:
            raise error(Reason.BAD_RANGE)

    def __contains__(self, key: bytes) -> bool:
        return self.begin <= key < self.end

    @property
    def is_empty(self) -> bool:
        """True when no key lies inside."""
        return self.begin == self.end

    def __repr__(self) -> str:
        return "Span(…)"  # Keys are the tenant's data and belong in no log line.


def check_namespace(namespace_id: int) -> int:
    """Return ``namespace_id`` when it may be issued, else raise ValueError (our own mistake, not the caller's)."""
    if not 0 <= namespace_id <= NAMESPACE_ID_MAX:
        raise ValueError("namespace id out of range")
    return namespace_id


def check_database(database: int) -> int:
    """Return ``database``, or raise InvalidArgumentError BAD_FIELD when it is not in 0..65535."""
    if not 0 <= database <= DATABASE_MAX:
        raise error(
            Reason.BAD_FIELD,
            f"database must be between 0 and {DATABASE_MAX}.",
            metadata={"field": "database"},
        )
    return database


def check_user_key(user_key: bytes) -> UserKey:
    """Return ``user_key``, or raise InvalidArgumentError KEY_EMPTY or KEY_TOO_LARGE (the error has size and limit)."""
    size = len(user_key)
    if size == 0:
        raise error(Reason.KEY_EMPTY)
    if size > KEY_BYTES_MAX:
        raise _too_large(size)
    return UserKey(user_key)


def _too_large(size: int) -> Exception:
    return error(
        Reason.KEY_TOO_LARGE,
        f"The key has {size} bytes; the limit is {KEY_BYTES_MAX}.",
        metadata={"size": str(size), "limit": str(KEY_BYTES_MAX)},
    )


def data_key(namespace_id: int, database: int, user_key: bytes) -> RowKey:
    """Return the row key of a user's row; checks the key and the database.

    Raises:
        InvalidArgumentError: KEY_EMPTY, KEY_TOO_LARGE or BAD_FIELD (database).
    """
    size = len(user_key)
    if not 0 < size <= KEY_BYTES_MAX:
        check_user_key(user_key)
    if not 0 <= database <= DATABASE_MAX:
        check_database(database)
    return RowKey(_DATA.pack(check_namespace(namespace_id), FAMILY_DATA, database) + user_key)


def system_key(namespace_id: int, tag: int, record_key: bytes = b"") -> RowKey:
    """Return the row key of a system record; ``tag`` (0..255) comes from ``catalog.schema`` or ``store``."""
    return RowKey(_SYSTEM.pack(check_namespace(namespace_id), FAMILY_SYSTEM, tag) + record_key)


def namespace_span(namespace_id: int) -> Span:
    """Return the span of everything the namespace owns, system records included."""
    check_namespace(namespace_id)
    return Span(RowKey(_NAMESPACE.pack(namespace_id)), RowKey(_NAMESPACE.pack(namespace_id + 1)))


def system_span(namespace_id: int, tag: int, record_prefix: bytes = b"") -> Span:
    """Return the span of the namespace's system records of one tag whose record key starts with ``record_prefix``."""
    begin = system_key(namespace_id, tag, record_prefix)
    return Span(begin, _after_prefix(begin))


def family_span(namespace_id: int, family: int) -> Span:
    """Return the span of one family of a namespace."""
    head = _NAMESPACE.pack(check_namespace(namespace_id))
    return Span(RowKey(head + bytes([family])), RowKey(head + bytes([family + 1])))


def database_span(namespace_id: int, database: int) -> Span:
    """Return the span of one database of a namespace."""
    return prefix_span(namespace_id, database, b"")


def prefix_span(namespace_id: int, database: int, prefix: bytes) -> Span:
    """Return the span of the user keys that start with ``prefix`` (empty: the whole database).

    Raises:
        InvalidArgumentError: KEY_TOO_LARGE when the prefix is longer than a key may be; BAD_FIELD (database).
    """
    if len(prefix) > KEY_BYTES_MAX:
        raise _too_large(len(prefix))
    begin = RowKey(_DATA.pack(check_namespace(namespace_id), FAMILY_DATA, check_database(database)) + prefix)
    return Span(begin, _after_prefix(begin))


def range_span(namespace_id: int, database: int, start: bytes, end: bytes) -> Span:
    """Return the span of the user keys ``start <= key < end``; an empty ``end`` means to the end of the database.

    A bound may be one byte longer than a key may be: ``key + b"\\0"`` is the usual way to resume after the longest key.

    Raises:
        InvalidArgumentError: BAD_RANGE when ``start > end``; KEY_TOO_LARGE; BAD_FIELD (database).
    """
    for bound in (start, end):
        if len(bound) > KEY_BYTES_MAX + 1:
            raise _too_large(len(bound))
    whole = database_span(namespace_id, database)
    begin = RowKey(whole.begin + start)
    return Span(begin, RowKey(whole.begin + end) if end else whole.end)


def is_data_key(row_key: bytes) -> bool:
    """Return whether ``row_key`` is the key of a user's row."""
    return len(row_key) > _DATA.size and row_key[_NAMESPACE.size] == FAMILY_DATA


def namespace_of(row_key: bytes) -> int:
    """Return the namespace id in front of ``row_key``.

    Raises:
        ValueError: the key is shorter than its head; such a key was not written by prefixdb.
    """
    if len(row_key) < _NAMESPACE.size:
        raise ValueError("not a prefixdb row key")
    return int(_NAMESPACE.unpack_from(row_key)[0])


def split_data_key(row_key: bytes) -> tuple[int, int, UserKey]:
    """Return (namespace id, database, user key) of a data row key.

    Raises:
        ValueError: ``row_key`` is not the key of a data row.
    """
    if len(row_key) <= _DATA.size:
        raise ValueError("not a data row key")
    namespace_id, family, database = _DATA.unpack_from(row_key)
    if family != FAMILY_DATA:
        raise ValueError("not a data row key")
    return namespace_id, database, UserKey(row_key[_DATA.size :])


def split_system_key(row_key: bytes) -> tuple[int, int, bytes]:
    """Return (namespace id, tag, record key) of a system row key.

    Raises:
        ValueError: ``row_key`` is not the key of a system record.
    """
    if len(row_key) < _SYSTEM.size:
        raise ValueError("not a system row key")
    namespace_id, family, tag = _SYSTEM.unpack_from(row_key)
    if family != FAMILY_SYSTEM:
        raise ValueError("not a system row key")
    return namespace_id, tag, row_key[_SYSTEM.size :]


def _after_prefix(prefix: bytes) -> RowKey:
    """Return the smallest key above every key that starts with ``prefix``; the family byte stops the carry."""
    stripped = prefix.rstrip(b"\xff")
    return RowKey(stripped[:-1] + bytes([stripped[-1] + 1]))
