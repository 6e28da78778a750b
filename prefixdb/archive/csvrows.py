"""Rows as CSV (RFC 4180): a header that names the columns, then a row a line.

    key,value,database,expires_at_ms
    user/1,alice,0,
    "a ""quoted"" key","two
    lines",3,1800000000000

Columns in any order: ``key`` and ``value`` in the encoding that is asked for, utf8 unless something else is said, or
``key_hex``, ``value_hex``, ``key_b64``, ``value_b64``, which say it themselves; ``database``, ``version``, ``ttl_s``,
``ttl_ms``, ``expires_at_ms``. A field in quotes may hold commas, quotes (doubled) and line ends. An empty number is
none.

Python's csv module is not used: its limit on the length of a field is one for the whole process, and it does not tell
which bytes a record came from.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from prefixdb.archive.rows import Rows
from prefixdb.archive.text import (
    LINE_BYTES_MAX,
    BadLine,
    NoRow,
    OnBad,
    TextOptions,
    TextRow,
    bad_text,
    lines_of,
    refuse,
    row_of,
)
from prefixdb.errors import bad_field

__all__ = ["csv_head", "csv_lines", "read_csv"]

_ENDINGS = {"utf8": "", "hex": "_hex", "base64": "_b64"}
_NUMBERS = frozenset({"database", "version", "ttl_s", "ttl_ms", "expires_at_ms"})
_BYTES = frozenset(name + ending for name in ("key", "value") for ending in _ENDINGS.values())
_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\Z)')


def csv_head(encoding: str, *, with_database: bool) -> bytes:
    """Return the header line; ``encoding`` is one of ``text.ENCODINGS``."""
    ending = _ENDINGS[encoding]
    columns = [f"key{ending}", f"value{ending}", *(["database"] if with_database else []), "expires_at_ms"]
    return (",".join(columns) + "\n").encode()


def csv_lines(rows: Rows, encoding: str, *, with_database: bool) -> bytes:
    """Return the lines of some rows.

    Raises:
        InvalidArgumentError: BAD_FIELD (encoding), a key or value is not UTF-8.
    """
    write = _WRITERS[encoding]
    database = f",{rows.database}" if with_database else ""
    try:
        return "".join(
            f"{write(key)},{write(value)}{database},{expires_at_ms or ''}\n"
            for key, value, _, expires_at_ms in rows.rows
        ).encode()
    except UnicodeDecodeError:
        # `from None`: the codec's error holds the value.
        raise bad_field("encoding", "utf8 cannot write a key or value that is not UTF-8; use hex or base64.") from None


def read_csv(file: BinaryIO, options: TextOptions, on_bad: OnBad = refuse) -> Iterator[TextRow]:
    """Yield the rows of a file in its order.

    Memory: one record. The file may be a pipe.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID when the header is not understood, for a record longer than any row can
            be, and whatever ``on_bad`` raises.
    """
    records = _records(file)
    header = next(records, None)
    if header is None:
        raise bad_text(1, "There is no header that names the columns.", header=True)
    columns = _columns(header[1], options.encoding)
    for number, record in records:
        if record.isspace():
            continue
        try:
            row = row_of(_named(columns, _split(record)), options)
        except NoRow as reason:
            on_bad(BadLine(number, str(reason), record, header[1]))
        else:
            yield row


def _records(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield each record, several lines when a quoted field has line ends in it, with the number of its first line."""
    held: list[bytes] = []
    size = first = 0
    open_quote = False
    for number, line in enumerate(lines_of(file), 1):
        if not held:
            first = number
        held.append(line)
        size += len(line)
        if size > LINE_BYTES_MAX:
            raise bad_text(first, "The record is longer than any row can be; a quote may be missing.")
        if open_quote:
            behind = _behind_quote(line, 0)
            open_quote = behind is None or _ends_open(line, behind)
        else:
            open_quote = b'"' in line and _ends_open(line, 0)
        if not open_quote:
            yield first, b"".join(held)
            held, size = [], 0
    if held:
        yield first, b"".join(held)


def _ends_open(line: bytes, position: int) -> bool:
    """True when a quoted field goes on behind the line.

    Only a quote at the beginning of a field opens one. One within a field makes a bad line of this line, and not one of
    everything that follows.
    """
    while True:
        if line.startswith(b'"', position):
            behind = _behind_quote(line, position + 1)
            if behind is None:
                return True
            position = behind
        comma = line.find(b",", position)
        if comma < 0:
            return False
        position = comma + 1


def _behind_quote(line: bytes, position: int) -> int | None:
    """Return where the quoted field ends that goes on at ``position``; None when that is in a later line."""
    while (quote := line.find(b'"', position)) >= 0:
        if not line.startswith(b'"', quote + 1):
            return quote + 1
        position = quote + 2
    return None


def _split(record: bytes) -> list[str]:
    try:
        text = record.decode()
    except UnicodeDecodeError:
        raise NoRow("The line is not UTF-8.") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if '"' not in text and "\r" not in text:
        return text.split(",")
    fields: list[str] = []
    position = 0
    while True:
        found = _FIELD.match(text, position)
        if found is None:
            raise NoRow("A quote is missing, or stands where none may.")
        quoted, plain, comma = found.groups()
        fields.append(plain if quoted is None else quoted.replace('""', '"'))
        if not comma:
            return fields
        position = found.end()


def _columns(header: bytes, encoding: str) -> Sequence[str]:
    """Return what each column is: the name that ``row_of`` knows it by."""
    try:
        names = [name.strip() for name in _split(header)]
    except NoRow as reason:
        raise bad_text(1, str(reason), header=True) from None
    columns = [name + _ENDINGS[encoding] if name in ("key", "value") else name for name in names]
    unknown = set(columns) - _BYTES - _NUMBERS
    kinds = [name.partition("_")[0] if name in _BYTES else name for name in columns]
    if unknown or len(set(kinds)) != len(kinds) or not {"key", "value"} <= set(kinds):
        wrong = _wrong_columns(names, [column in unknown for column in columns])
        raise bad_text(
            1,
            f"{wrong} The first line must name the columns: key, value (or _hex, _b64 of these), and perhaps database, "
            "version, ttl_s, ttl_ms, expires_at_ms, each once.",
            header=True,
        )
    return columns


def _wrong_columns(names: Sequence[str], unknown: Sequence[bool]) -> str:
    """Return what a header lacks, without quoting it: where it is missing, a row stands there."""
    if len(names) == 1:
        for separator, called in ((";", "semicolons"), ("\t", "tabs")):
            if separator in names[0]:
                return f"There are {called} between the fields; only commas are read."
    if {"key", "value"} <= {name.lower() for name in names} and not {"key", "value"} <= set(names):
        return "The columns' names are written in small letters."
    if len(names) > 1 and not all(unknown):
        places = [str(place) for place, is_unknown in enumerate(unknown, 1) if is_unknown]
        if places:
            return (
                f"Column {', '.join(places)} has another name."
                if len(places) == 1
                else (f"Columns {', '.join(places)} have other names.")
            )
        return "A column is missing, or there twice."
    return "There is no header."


def _named(columns: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
    if len(texts) != len(columns):
        there = "is 1 field" if len(texts) == 1 else f"are {len(texts)} fields"
        raise NoRow(f"There {there} where the header has {len(columns)}.")
    fields: dict[str, Any] = dict(zip(columns, texts, strict=True))
    for name in _NUMBERS.intersection(fields):
        fields[name] = _number(name, fields[name])
    return fields


def _number(name: str, text: str) -> int | float | None:
    if not text:
        return None
    try:
        if text.isascii() and text.isdigit():
            return int(text)
        if name == "ttl_s":
            return float(text)
    except ValueError:
        pass
    raise NoRow(f"The {name} is no number.")


def _quoted(data: bytes) -> str:
    text = data.decode()
    # Blanks at either end are quoted, too: some programs would strip them. One test for each is faster than a pattern.
    if '"' in text or "," in text or "\n" in text or "\r" in text or text.strip() != text:
        return '"' + text.replace('"', '""') + '"'
    return text


_WRITERS: dict[str, Callable[[bytes], str]] = {
    "utf8": _quoted,
    "hex": bytes.hex,
    "base64": lambda data: b64encode(data).decode(),
}
