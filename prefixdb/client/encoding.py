"""From what callers pass to what travels: keys, values, lifetimes, ranges, conditions and references.

Everything here is pure. A wrong type is a ``TypeError`` that says what to write instead; a wrong value is an
``InvalidArgumentError``. Limits on sizes are the server's to check: it knows its configuration.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TypeVar

from prefixdb.errors import Reason, error
from prefixdb.limits import DATABASE_MAX, NAMESPACE_ID_MAX, TTL_MS_MAX
from prefixdb.v1 import key_value_pb2, namespaces_pb2

Key = str | bytes
"""A key as callers pass it: text stands for its UTF-8 bytes."""

KeyT = TypeVar("KeyT", bound=Key)

Lifetime = int | float | timedelta
"""Seconds, or a timedelta."""


def encode_key(key: object) -> bytes:
    """Return the bytes of a key.

    Raises:
        TypeError: it is neither text nor bytes.
        InvalidArgumentError: BAD_FIELD when the text cannot be UTF-8 (a lone surrogate).
    """
    if isinstance(key, bytes):
        return key
    if isinstance(key, str):
        try:
            return key.encode()
        except UnicodeEncodeError:
            # `from None`: the codec's own error quotes the key.
            raise error(
                Reason.BAD_FIELD, "The key has a lone surrogate, which UTF-8 cannot hold; pass bytes."
            ) from None
    if isinstance(key, bytearray | memoryview):
        return bytes(key)
    raise TypeError(f"A key is str or bytes, not {type(key).__name__}; for a number use str(n) or n.to_bytes(8).")


def encode_value(value: object) -> bytes:
    """Return the bytes of a value.

    Raises:
        TypeError: it is not bytes.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    advice = "use text.encode()" if isinstance(value, str) else "encode it first, for example json.dumps(x).encode()"
    raise TypeError(f"A value is bytes, not {type(value).__name__}; {advice}.")


def encode_password(password: object) -> str:
    """Return a password as it travels; its length is the server's to judge.

    Raises:
        TypeError: it is no text.
        InvalidArgumentError: BAD_FIELD when it is empty or has a lone surrogate.
    """
    if not isinstance(password, str):
        raise TypeError(f"A password is text (str), not {type(password).__name__}.")
    if not password:
        raise error(Reason.BAD_FIELD, "The password is empty.")
    if any("\ud800" <= char <= "\udfff" for char in password):
        raise error(Reason.BAD_FIELD, "The password has a lone surrogate, which UTF-8 cannot hold.")
    return password


def ttl_to_ms(ttl: Lifetime | None) -> int:
    """Return a lifetime in whole milliseconds, rounded up; 0 for None, which is "for ever".

    Raises:
        TypeError: it is no number and no timedelta.
        InvalidArgumentError: BAD_FIELD when it is not positive, not finite, or over a hundred years.
    """
    if ttl is None:
        return 0
    if isinstance(ttl, timedelta):
        seconds = ttl.total_seconds()
    elif isinstance(ttl, int | float) and not isinstance(ttl, bool):
        seconds = ttl
    else:
        raise TypeError(f"A lifetime is seconds (int or float) or a timedelta, not {type(ttl).__name__}.")
    if not math.isfinite(seconds) or seconds <= 0:
        raise error(Reason.BAD_FIELD, "A lifetime must be positive; leave ttl out for a row that does not expire.")
    ttl_ms = math.ceil(round(seconds * 1000, 6))
    if ttl_ms > TTL_MS_MAX:
        raise error(Reason.BAD_FIELD, "A lifetime is at most a hundred years; leave ttl out for one that never ends.")
    return ttl_ms


def check_database(database: int) -> int:
    """Return ``database`` if it is a number of a database, 0 .. 65535.

    Raises:
        TypeError: it is no integer.
        InvalidArgumentError: BAD_FIELD when it is out of range.
    """
    if isinstance(database, bool) or not isinstance(database, int):
        raise TypeError(f"A database is a number, not {type(database).__name__}.")
    if not 0 <= database <= DATABASE_MAX:
        raise error(Reason.BAD_FIELD, f"A database is a number from 0 to {DATABASE_MAX}, not {database}.")
    return database


def key_range(prefix: Key | None, start: Key | None, end: Key | None) -> key_value_pb2.KeyRange:
    """Return the range of a prefix, or of half-open bounds, or of everything.

    Raises:
        InvalidArgumentError: BAD_RANGE for a prefix together with bounds, or for ``start`` after ``end``.
    """
    if prefix is not None and (start is not None or end is not None):
        raise error(Reason.BAD_RANGE, "Give either a prefix or start and end, not both.")
    if prefix is not None:
        return key_value_pb2.KeyRange(prefix=encode_key(prefix))
    first = b"" if start is None else encode_key(start)
    last = b"" if end is None else encode_key(end)
    if end is not None and not last:
        raise error(Reason.BAD_RANGE, "An empty end would be before every key; leave end out to go to the last key.")
    if last and first > last:
        raise error(Reason.BAD_RANGE, "start lies after end. Bounds are in key order also for a reverse scan.")
    return key_value_pb2.KeyRange(start=first, end=last)


def row_test(
    *,
    version: int | None = None,
    absent: bool = False,
    exists: bool = False,
    value: bytes | None = None,
) -> key_value_pb2.Test | None:
    """Return the one test that was asked for, or None when none was.

    Raises:
        InvalidArgumentError: BAD_FIELD for more than one, or for a version below 1.
    """
    asked = [version is not None, absent, exists, value is not None]
    if sum(asked) > 1:
        raise error(Reason.BAD_FIELD, "Give one condition on a row, not several.")
    if version is not None:
        if isinstance(version, bool) or not isinstance(version, int):
            raise TypeError(f"A version is the integer that a read or a write returned, not {type(version).__name__}.")
        if not 0 < version < 2**64:
            raise error(Reason.BAD_FIELD, "A version is at least 1; ask for an absent row with 'absent'.")
        return key_value_pb2.Test(version=version)
    if absent:
        return key_value_pb2.Test(absent=True)
    if exists:
        return key_value_pb2.Test(exists=True)
    if value is not None:
        return key_value_pb2.Test(value=encode_value(value))
    return None


def repeat_is_safe(test: key_value_pb2.Test | None) -> bool:
    """True when a write under ``test`` of the row it writes can be sent twice: the second cannot be applied as well."""
    return test is not None and test.WhichOneof("test") in {"version", "absent"}


def namespace_ref(namespace: int | str) -> namespaces_pb2.NamespaceRef:
    """Return a reference by id (an int) or by name (a str).

    Raises:
        TypeError: it is neither.
        InvalidArgumentError: BAD_FIELD for a number that is no namespace id.
    """
    if isinstance(namespace, str):
        return namespaces_pb2.NamespaceRef(name=namespace)
    if isinstance(namespace, bool) or not isinstance(namespace, int):
        raise TypeError(f"A namespace is its name (str) or its id (int), not {type(namespace).__name__}.")
    if not 0 <= namespace <= NAMESPACE_ID_MAX:
        raise error(Reason.BAD_FIELD, f"A namespace id is a number from 0 to {NAMESPACE_ID_MAX}.")
    return namespaces_pb2.NamespaceRef(id=namespace)
