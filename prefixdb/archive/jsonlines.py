"""Rows as JSON lines: one object a line, as ``prefixdb scan --json`` prints it.

    {"key": "user/1", "value": "alice", "version": 258}
    {"key_b64": "AP8=", "value": "x", "database": 3, "version": 259, "expires_at_ms": 1800000000000}

``key`` and ``value`` are text, ``key_b64`` and ``value_b64`` the base64 of bytes that are no UTF-8; ``key_hex`` and
``value_hex`` are read, too. ``ttl_s`` and ``ttl_ms`` count from the moment of reading. Empty lines are read over.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from json.encoder import encode_basestring
from typing import Any, BinaryIO

from prefixdb.archive.rows import Rows
from prefixdb.archive.text import BadLine, NoRow, OnBad, TextOptions, TextRow, lines_of, refuse, row_of

__all__ = ["json_lines", "read_json_lines"]


def json_lines(rows: Rows, *, with_database: bool) -> bytes:
    """Return the lines of some rows.

    Args:
        rows: of one database.
        with_database: whether each line names it; without, a load puts the rows wherever it is told to.
    """
    database = f', "database": {rows.database}' if with_database else ""
    lines = []
    for key, value, version, expires_at_ms in rows.rows:
        ends = f', "expires_at_ms": {expires_at_ms}' if expires_at_ms else ""
        lines.append(f'{{{_text("key", key)}, {_text("value", value)}{database}, "version": {version}{ends}}}\n')
    return "".join(lines).encode()


def read_json_lines(file: BinaryIO, options: TextOptions, on_bad: OnBad = refuse) -> Iterator[TextRow]:
    """Yield the rows of a file in its order.

    Memory: one line. The file may be a pipe.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID for a line longer than any row can be, and whatever ``on_bad`` raises.
    """
    decode = _DECODER.decode
    for number, line in enumerate(lines_of(file), 1):
        if line.isspace():
            continue
        try:
            row = row_of(_fields(decode, line), options)
        except NoRow as reason:
            on_bad(BadLine(number, str(reason), line))
        else:
            yield row


_NOT_WHOLE = "is no whole JSON object; each row is one line, as 'jq -c' writes it."


class _TwiceError(ValueError):
    """A name stands twice in an object; readers do not agree which one counts."""


def _text(name: str, data: bytes) -> str:
    try:
        return f'"{name}": {encode_basestring(data.decode())}'
    except UnicodeDecodeError:
        return f'"{name}_b64": "{b64encode(data).decode()}"'


def _fields(decode: Any, line: bytes) -> dict[str, Any]:
    try:
        fields = decode(line.decode())
    except UnicodeDecodeError:
        raise NoRow("The line is not UTF-8.") from None
    except _TwiceError:
        raise NoRow("One of the line's names stands twice.") from None
    except (ValueError, RecursionError):
        # `from None`: the decoder's error quotes the line.
        raise NoRow(f"The line {_NOT_WHOLE}") from None
    if type(fields) is list:
        raise NoRow("The line is a list; each row is an object on a line of its own, as 'jq -c .[]' writes them.")
    if type(fields) is not dict:
        raise NoRow(f"The line {_NOT_WHOLE}")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _TwiceError
    return fields


def _no_number(_: str) -> Any:
    raise ValueError("JSON has no such number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)
