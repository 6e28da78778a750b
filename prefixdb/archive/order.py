"""What must hold between the frames of an archive: their order, the order inside, and the counts at the end.

Writer and reader both keep one of these. Each method checks everything before it changes anything, so a frame that was
refused leaves no trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import lt

from prefixdb.archive.contents import Footer, Header
from prefixdb.archive.frames import KINDS, Fault
from prefixdb.archive.rows import ArchiveRow, PackedRows, check_packed, check_rows
from prefixdb.archive.scanned import RowsFacts, check_facts
from prefixdb.limits import GROUPS_PER_NAMESPACE_MAX, MEMBERS_PER_NAMESPACE_MAX

__all__ = ["Order"]

_NOTHING, _HEADER, _GROUPS, _MEMBERS, _ROWS, _FOOTER = range(1 + len(KINDS))


class Order:
    """How far an archive has come, and what may follow."""

    def __init__(self) -> None:
        self._stage = _NOTHING
        self._header: Header | None = None
        self._rows = self._groups = self._members = self._max_version = 0
        self._last_group = self._last_member = ""
        self._database, self._last_key = 0, b""

    @property
    def header(self) -> Header | None:
        """The header, once it has come."""
        return self._header

    def counts(self) -> tuple[int, int, int, int]:
        """Rows, groups, members and the greatest version so far."""
        return self._rows, self._groups, self._members, self._max_version

    def begin(self, header: Header) -> None:
        """The header has come."""
        if self._stage != _NOTHING:
            raise Fault("A second header.")
        self._stage, self._header = _HEADER, header

    def expect(self, kind: str) -> None:
        """Raise Fault when no frame of this kind may come now; asked before its body is looked at."""
        self._expect(1 + KINDS.index(kind))

    def groups(self, names: Sequence[str]) -> None:
        """A frame of groups has come."""
        self._whole_namespace(_GROUPS)
        _check_names(names, self._last_group)
        if self._groups + len(names) > GROUPS_PER_NAMESPACE_MAX:
            raise Fault("There are more groups than a namespace may have.")
        self._stage, self._last_group = _GROUPS, names[-1]
        self._groups += len(names)

    def members(self, names: Sequence[str]) -> None:
        """A frame of members has come."""
        self._whole_namespace(_MEMBERS)
        _check_names(names, self._last_member)
        if self._members + len(names) > MEMBERS_PER_NAMESPACE_MAX:
            raise Fault("There are more members than a namespace may have.")
        self._stage, self._last_member = _MEMBERS, names[-1]
        self._members += len(names)

    def rows(self, database: int, rows: Sequence[ArchiveRow]) -> None:
        """A frame of rows has come."""
        header, versions = self._rows_may_come(database)
        after = None
        if header.sorted:
            after = self._last_key if database == self._database else b""
        greatest = check_rows(rows, versions, after=after)
        self._took(database, len(rows), greatest, rows[0][0], rows[-1][0])

    def packed(self, rows: PackedRows) -> None:
        """A frame of rows has come that were packed where they are kept; of a sorted archive."""
        header, versions = self._rows_may_come(rows.database)
        if not header.sorted:
            raise Fault("Packed rows in an archive that is not sorted.")
        check_packed(rows, versions, after=self._last_key if rows.database == self._database else b"")
        self._took(rows.database, rows.rows, rows.greatest_version, rows.first_key, rows.last_key)

    def scanned(self, content: bytes, facts: RowsFacts) -> None:
        """A frame of rows has come that a scanner looked through."""
        header, versions = self._rows_may_come(facts.database)
        after = None
        if header.sorted:
            after = self._last_key if facts.database == self._database else b""
        check_facts(content, facts, versions, after=after)
        self._took(facts.database, facts.rows, facts.version_max, facts.first_key, facts.last_key)

    def end(self, footer: Footer) -> None:
        """The footer has come."""
        self._expect(_FOOTER)
        if tuple(footer) != self.counts():
            raise Fault("The footer counts something else than there was.")
        self._stage = _FOOTER

    def _expect(self, stage: int) -> Header:
        """Return the header when a frame of this stage may come now."""
        if self._header is None:
            raise Fault("The first frame is not a header.")
        if self._stage == _FOOTER:
            raise Fault("A frame stands behind the footer.")
        if self._stage > stage:
            raise Fault("A frame stands behind one that it belongs in front of.")
        return self._header

    def _rows_may_come(self, database: int) -> tuple[Header, tuple[int, int]]:
        """Return the header and the least and greatest version when rows of this database may come now."""
        header = self._expect(_ROWS)
        if header.database is not None and database != header.database:
            raise Fault("Rows of another database than the header says.")
        if header.sorted and database < self._database:
            raise Fault("The rows are not in order: a database stands behind a greater one.")
        return header, (0, 0) if header.kind == "rows" else (1, header.last_version)

    def _took(self, database: int, rows: int, greatest: int, first_key: bytes, last_key: bytes) -> None:
        """Count rows that were checked but for the prefix."""
        prefix = self._expect(_ROWS).prefix
        # Keys that ascend share a prefix when the first and the last have it.
        if not (first_key.startswith(prefix) and last_key.startswith(prefix)):
            raise Fault("A key does not have the prefix that the header says.")
        self._stage, self._database, self._last_key = _ROWS, database, last_key
        self._rows += rows
        self._max_version = max(self._max_version, greatest)

    def _whole_namespace(self, stage: int) -> None:
        if self._expect(stage).kind != "namespace":
            raise Fault("Groups or members in an archive that is not of a whole namespace.")


def _check_names(names: Sequence[str], after: str) -> None:
    if not names:
        raise Fault("A frame of groups or members has none.")
    if names[0] <= after or not all(map(lt, names, names[1:])):
        raise Fault("The names are not in order, or one of them stands twice.")
