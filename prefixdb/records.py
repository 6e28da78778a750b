"""Stored values and system records: the bytes behind every row key.

    stored value := head u8 | version u64 | [expires_at_ms u64 when flag 1] | payload
    head         := format (high nibble, 1) << 4 | flags (low nibble)
    flag 1       := the row has a lifetime; it is absent for every read from expires_at_ms on
    system record payload := format u8 (1) | msgpack map with text keys

All integers are big-endian. Unknown flags and formats are DATA_LOSS: bytes that cannot be understood are never
guessed at. ``tests/data/records.json`` pins the bytes.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import msgpack

from prefixdb.errors import Reason, error

VALUE_FORMAT = 1
RECORD_FORMAT = 1
FLAG_EXPIRES = 0x1

_HEAD_PLAIN = VALUE_FORMAT << 4
_HEAD_EXPIRES = VALUE_FORMAT << 4 | FLAG_EXPIRES
_PLAIN = struct.Struct(">BQ")
_EXPIRES = struct.Struct(">BQQ")


class StoredValue(NamedTuple):
    """One decoded stored value. ``expires_at_ms`` is 0 when the row lives until it is deleted."""

    payload: bytes
    version: int
    expires_at_ms: int


def encode_value(payload: bytes, version: int, expires_at_ms: int = 0) -> bytes:
    """Return the stored form of ``payload``.

    Args:
        payload: the user's value or a system record.
        version: version of the commit that writes the row, 1 .. 2^64-1.
        expires_at_ms: milliseconds since the epoch from which on the row is absent; 0 for never.
    """
    if expires_at_ms:
        return _EXPIRES.pack(_HEAD_EXPIRES, version, expires_at_ms) + payload
    return _PLAIN.pack(_HEAD_PLAIN, version) + payload


def decode_value(stored: bytes) -> StoredValue:
    """Return the parts of a stored value.

    Raises:
        DataLossError: CORRUPTION when the bytes are not a stored value of a known format.
    """
    return StoredValue(*split_value(stored))


def split_value(stored: bytes) -> tuple[bytes, int, int]:
    """``decode_value`` as a plain tuple, for walks: making the named one takes as long as all the rest."""
    head = stored[0] if stored else -1
    if head == _HEAD_PLAIN and len(stored) >= _PLAIN.size:
        return stored[_PLAIN.size :], _PLAIN.unpack_from(stored)[1], 0
    if head == _HEAD_EXPIRES and len(stored) >= _EXPIRES.size:
        _, version, expires_at_ms = _EXPIRES.unpack_from(stored)
        return stored[_EXPIRES.size :], version, expires_at_ms
    raise error(Reason.CORRUPTION, "A stored value has an unknown format or is cut short.")


def encode_record(fields: dict[str, Any]) -> bytes:
    """Return the payload of a system record: the format number and a msgpack map of ``fields`` in the order given."""
    packed: bytes = msgpack.packb(fields, use_bin_type=True)
    return bytes([RECORD_FORMAT]) + packed


def decode_record(payload: bytes) -> dict[str, Any]:
    """Return the fields of a system record.

    Raises:
        FailedPreconditionError: FORMAT_TOO_NEW when a newer prefixdb wrote it; both numbers are in the message.
        DataLossError: CORRUPTION when the bytes are not a record.
    """
    if not payload or payload[0] == 0:
        raise error(Reason.CORRUPTION, "A system record is empty or has no format number.")
    if payload[0] > RECORD_FORMAT:
        raise error(
            Reason.FORMAT_TOO_NEW,
            f"A system record has format {payload[0]}, this prefixdb reads up to {RECORD_FORMAT}; use a newer one.",
        )
    try:
        fields = msgpack.unpackb(payload[1:], raw=False, strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as damage:
        raise error(Reason.CORRUPTION, "A system record cannot be decoded.") from damage
    if not isinstance(fields, dict) or not all(isinstance(name, str) for name in fields):
        raise error(Reason.CORRUPTION, "A system record is not a map with text keys.")
    return fields
