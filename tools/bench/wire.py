"""The bytes of a benchmark: protobuf by hand for etcd's messages, and gRPC's frame around any message.

    frame   := compressed u8 (0) | length u32 big-endian | message
    message := (tag varint | varint  or  length varint + bytes)*

A few fields of etcd's public API are all this needs, so there is no generated code to keep.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

Field = tuple[int, int | bytes]


def frame(message: bytes) -> bytes:
    """Return ``message`` as a gRPC client sends it: uncompressed, with its length in front."""
    return struct.pack(">BI", 0, len(message)) + message


def message(*fields: Field) -> bytes:
    """Return a protobuf message of (field number, integer or bytes) in the order given."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, bytes):
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
        else:
            out += _varint(number << 3) + _varint(value)
    return bytes(out)


def fields(encoded: bytes) -> Iterator[Field]:
    """Yield the (field number, value) pairs of a message that has only varints and length-delimited fields.

    Raises:
        ValueError: another wire type, or the bytes end inside a field.
    """
    position = 0
    while position < len(encoded):
        tag, position = _read_varint(encoded, position)
        number, wire_type = tag >> 3, tag & 7
        value, position = _read_varint(encoded, position)
        if wire_type == 0:
            yield number, value
        elif wire_type == 2:
            if position + value > len(encoded):
                raise ValueError("a protobuf field is cut short")
            yield number, encoded[position : position + value]
            position += value
        else:
            raise ValueError(f"unexpected protobuf wire type {wire_type}")


def first(encoded: bytes, number: int) -> int | bytes | None:
    """Return the first value of a field, or None when the message does not have it."""
    return next((value for found, value in fields(encoded) if found == number), None)


def messages(encoded: bytes, number: int) -> list[bytes]:
    """Return every message, string or bytes of a repeated field, in order."""
    return [value for found, value in fields(encoded) if found == number and isinstance(value, bytes)]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(encoded: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(encoded):
            raise ValueError("a protobuf varint is cut short")
        byte = encoded[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
