"""What a salvage finds and what it finds lost, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from prefixdb.store.version_log import TableFile


class Found(NamedTuple):
    """A stored row. ``doubtful``: a newer value, or its deletion, may be among what was lost."""

    key: bytes
    value: bytes
    doubtful: bool


@dataclass(frozen=True, slots=True)
class LostTable:
    """A table file that is lost as a whole, or in parts (``partly``).

    first_key, last_key, first_sequence, last_sequence, level: from the MANIFEST; None, 0 and -1 when that is lost too.
    """

    name: str
    why: str
    partly: bool = False
    size: int = 0
    level: int = -1
    first_key: bytes | None = None
    last_key: bytes | None = None
    first_sequence: int = 0
    last_sequence: int = 0


@dataclass(frozen=True, slots=True)
class LostLog:
    """A write-ahead log that is missing, damaged, or left out because one before it is."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a table file that cannot be read: ``begin <= key < end``, None for no end."""

    table: TableFile
    begin: bytes
    end: bytes | None

    def covers(self, key: bytes) -> bool:
        """Return whether the key lies in it."""
        return self.begin <= key and (self.end is None or key < self.end)


@dataclass(slots=True)
class Losses:
    """What was found out about the files.

    notes: sentences about MANIFEST, CURRENT and side file. obsolete: table files and logs not in use, left out.
    sequence: last commit that was found. acknowledged: last one that the side file knows of; 0 without one.
    tail_damaged: commits behind ``sequence`` are lost whatever the side file says.
    tables_uncertain: it is not known for sure which table files were in use.
    """

    notes: list[str] = field(default_factory=list)
    tables: list[LostTable] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    logs: list[LostLog] = field(default_factory=list)
    obsolete: list[str] = field(default_factory=list)
    sequence: int = 0
    acknowledged: int = 0
    tail_damaged: bool = False
    tables_uncertain: bool = False
