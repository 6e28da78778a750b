"""What the text formats share: lines with numbers, fields made into rows, and lines that cannot be.

A row made from text is ``(database, key, value, version, expires_at_ms)`` with version 0: a version that stands in the
text is read over, for the server that takes the row gives it its own.

A line that is no row does not end the reading: it goes to ``on_bad`` with its number and the reason. ``refuse`` raises;
``Rejects`` writes it into a file, so that what is left can be put right and loaded by itself. No reason quotes a line.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from prefixdb.archive.rows import EXPIRES_AT_MS_MAX
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import DATABASE_MAX, KEY_BYTES_MAX, KIB, TTL_MS_MAX, VALUE_BYTES_CEILING

__all__ = [
    "ENCODINGS",
    "LINE_BYTES_MAX",
    "BadLine",
    "NoRow",
    "OnBad",
    "Rejects",
    "TextOptions",
    "TextRow",
    "bad_text",
    "lines_of",
    "refuse",
    "row_of",
]

ENCODINGS = ("utf8", "hex", "base64")
"""How bytes can be written in text."""

LINE_BYTES_MAX = 6 * (VALUE_BYTES_CEILING + KEY_BYTES_MAX) + KIB
"""Longest line: JSON may need six characters for a byte."""

TextRow = tuple[int, bytes, bytes, int, int]
"""(database, key, value, version, expires_at_ms); what ``row_batches`` takes."""


class NoRow(ValueError):
    """Why a line is no row, as a sentence that quotes nothing of it."""


class BadLine(NamedTuple):
    """A line that is no row.

    line: its number, from 1; of the first one when a row has several.
    text: its bytes, line end included.
    header: what must stand in front of it for it to be read again; empty for formats without a header.
    """

    line: int
    reason: str
    text: bytes
    header: bytes = b""

    def __repr__(self) -> str:
        return f"BadLine(line={self.line}, reason={self.reason!r})"


OnBad = Callable[[BadLine], None]


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How text is understood.

    now_ms: the moment that lifetimes count from.
    database: of rows that name none.
    encoding: of CSV columns named ``key`` and ``value``.
    """

    now_ms: int
    database: int = 0
    encoding: str = "utf8"


class Rejects:
    """Writes bad lines as they are into a file that can be loaded again; ``count`` of them so far.

    on_line: told of each, for a person.
    """

    def __init__(self, file: BinaryIO, on_line: OnBad | None = None) -> None:
        self.count = 0
        self._file = file
        self._on_line = on_line

    def __call__(self, bad: BadLine) -> None:
        """Put a line aside."""
        if not self.count and bad.header:
            self._file.write(bad.header)
        self._file.write(bad.text if bad.text.endswith(b"\n") else bad.text + b"\n")
        self.count += 1
        if self._on_line is not None:
            self._on_line(bad)


def refuse(bad: BadLine) -> None:
    """Raise ARCHIVE_INVALID for a bad line."""
    raise bad_text(bad.line, bad.reason)


def bad_text(line: int, what: str, *, header: bool = False) -> PrefixdbError:
    """Return ARCHIVE_INVALID at a line; ``what`` is a whole sentence. ``header``: no row can be read without it."""
    place = f"line {line}"
    metadata = {"place": place} | ({"part": "header"} if header else {})
    return error(Reason.ARCHIVE_INVALID, f"The input is invalid at {place}: {what}", metadata=metadata)


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines with their ends; a byte order mark in front of the first is left out.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID for a line longer than any row can be: this is no text.
    """
    first = True
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise bad_text(number, "The line is longer than any row can be.")
        yield line.removeprefix(b"\xef\xbb\xbf") if first else line
        first = False


def row_of(fields: dict[str, Any], options: TextOptions) -> TextRow:
    """Return the row that named fields describe.

    Args:
        fields: key, key_b64 or key_hex; value, value_b64 or value_hex; perhaps database, version and one of ttl_s,
            ttl_ms, expires_at_ms, numbers or None. It is used up.

    Raises:
        NoRow: they describe none.
    """
    key = _take_bytes(fields, "key")
    value = _take_bytes(fields, "value")
    database = fields.pop("database", None)
    if database is None:
        database = options.database
    elif type(database) is not int or not 0 <= database <= DATABASE_MAX:
        raise NoRow(f"The database is no number between 0 and {DATABASE_MAX}.")
    version = fields.pop("version", None)
    if version is not None and (type(version) is not int or version < 0):
        raise NoRow("The version is no whole number.")
    expires_at_ms = _take_lifetime(fields, options.now_ms) if fields else 0
    if fields:
        raise NoRow(
            "There is a field that is not understood: there are key, value (or _b64, _hex of these, each once), "
            "database, version, and one of ttl_s, ttl_ms and expires_at_ms."
        )
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise NoRow(f"The key is empty or longer than {KEY_BYTES_MAX:,} bytes.")
    if len(value) > VALUE_BYTES_CEILING:
        raise NoRow(f"The value is longer than {VALUE_BYTES_CEILING:,} bytes.")
    return database, key, value, 0, expires_at_ms


def _take_bytes(fields: dict[str, Any], name: str) -> bytes:
    text = fields.pop(name, None)
    if text is not None:
        if type(text) is not str:
            raise NoRow(f"The {name} is no text.")
        try:
            return text.encode()
        except UnicodeEncodeError:
            raise NoRow(f"The {name} is half a character; use {name}_b64.") from None
    for ending, decode in _DECODERS.items():
        text = fields.pop(name + ending, None)
        if text is not None:
            if type(text) is not str:
                raise NoRow(f"The {name}{ending} is no text.")
            try:
                return decode(text)
            except (ValueError, binascii.Error):
                raise NoRow(f"The {name}{ending} is not written as its name says.") from None
    raise NoRow(f"There is no {name}.")


_DECODERS: dict[str, Callable[[str], bytes]] = {
    "_b64": lambda text: base64.b64decode(text, validate=True),
    "_hex": binascii.unhexlify,
}


def _take_lifetime(fields: dict[str, Any], now_ms: int) -> int:
    """Return expires_at_ms, 0 for a row that lives for ever."""
    given = {}
    for name in ("ttl_s", "ttl_ms", "expires_at_ms"):
        number = fields.pop(name, None)
        if number is not None:
            given[name] = number
    if not given:
        return 0
    if len(given) > 1:
        raise NoRow("There is more than one lifetime.")
    ((name, number),) = given.items()
    if type(number) is not int and not (type(number) is float and name == "ttl_s"):
        raise NoRow(f"The {name} is no number.")
    if name == "expires_at_ms":
        if not 0 <= number <= EXPIRES_AT_MS_MAX:
            raise NoRow("The end of life is out of its range.")
        return int(number)
    # Compared before it is rounded: a number may be infinite.
    lifetime_ms = number * 1000 if name == "ttl_s" else number
    if not 0 <= lifetime_ms <= TTL_MS_MAX:
        raise NoRow("The lifetime is negative or longer than a hundred years.")
    return now_ms + round(lifetime_ms)
