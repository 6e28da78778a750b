"""Frames of rows that stay packed: looked through once, by something faster than Python, and handed on as they are.

What a store brings for this says what the rows have in common, or that it cannot tell; then the frame is decoded and
looked at in Python. So both ways take the same frames and refuse the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from operator import lt
from typing import NamedTuple, Protocol

from prefixdb.archive.frames import Fault
from prefixdb.archive.rows import ArchiveRow, Rows, check_size, decode_rows
from prefixdb.limits import VALUE_BYTES_CEILING

__all__ = ["RowsFacts", "RowsScanner", "ScannedRows", "check_facts", "facts_of"]


class RowsFacts(NamedTuple):
    """What the rows of a frame have in common. Types, lengths of keys and ends of life were found right.

    ascending: their keys, strictly.
    bytes: of their keys and values.
    """

    database: int
    rows: int
    first_key: bytes
    last_key: bytes
    ascending: bool
    value_bytes_max: int
    version_min: int
    version_max: int
    expires_at_ms_max: int
    bytes: int


class RowsScanner(Protocol):
    """Looks through contents of frames without making an object of each row. Thread-safe."""

    def scan(self, content: bytes) -> RowsFacts | None:
        """Return what the rows have in common; None when only Python can tell, or these are no rows."""

    def versions(self, content: bytes) -> array[int] | None:
        """Return the distinct versions, ascending; None as above."""


class ScannedRows:
    """Content of a frame of rows that was found right and not decoded. Immutable."""

    __slots__ = ("_scanner", "content", "facts")

    def __init__(self, content: bytes, facts: RowsFacts, scanner: RowsScanner) -> None:
        self.content = content
        self.facts = facts
        self._scanner = scanner

    def __repr__(self) -> str:
        return f"ScannedRows(database={self.database}, rows={self.facts.rows} of them)"

    @property
    def database(self) -> int:
        """The database of the rows."""
        return self.facts.database

    @property
    def rows(self) -> Sequence[ArchiveRow]:
        """The rows, decoded anew each time."""
        return decode_rows(self.content).rows

    def versions(self) -> Sequence[int]:
        """Return the rows' distinct versions, ascending."""
        found = self._scanner.versions(self.content)
        if found is None:
            raise RuntimeError("rows that were looked through cannot be read")
        return found


def facts_of(content: Rows | ScannedRows) -> RowsFacts:
    """Return what rows that were found right have in common."""
    if isinstance(content, ScannedRows):
        return content.facts
    rows = content.rows
    keys = [row[0] for row in rows]
    sizes = [len(row[1]) for row in rows]
    versions = [row[2] for row in rows]
    return RowsFacts(
        database=content.database,
        rows=len(rows),
        first_key=keys[0],
        last_key=keys[-1],
        ascending=all(map(lt, keys, keys[1:])),
        value_bytes_max=max(sizes),
        version_min=min(versions),
        version_max=max(versions),
        expires_at_ms_max=max([row[3] for row in rows]),
        bytes=sum(map(len, keys)) + sum(sizes),
    )


def check_facts(content: bytes, facts: RowsFacts, versions: tuple[int, int], *, after: bytes | None) -> None:
    """Do what ``decode_rows`` and ``check_rows`` do beyond what a scanner has done.

    Raises:
        Fault: as they.
    """
    check_size(content, facts.rows)
    if facts.value_bytes_max > VALUE_BYTES_CEILING:
        raise Fault("A value is longer than a value may be.")
    if facts.version_min < versions[0] or facts.version_max > versions[1]:
        raise Fault("A version is out of the range that the header allows.")
    if after is not None and (facts.first_key <= after or not facts.ascending):
        raise Fault("The rows are not in order, or one of them stands twice.")
