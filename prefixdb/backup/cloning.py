"""What a clone is made of: everything another namespace has at one instant, moved under another number.

One cursor sees all of it, groups and members too, so that a member never comes without its group. Tokens and logins are
the source's and stay there. Rows keep their versions, which this store gave out, and their lifetimes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefixdb.archive import ScannedRows
from prefixdb.archive.rows import FRAME_HEAD_BYTES, decode_rows
from prefixdb.backup.building import Progress
from prefixdb.backup.placing import Frame, Page
from prefixdb.catalog import schema
from prefixdb.catalog.incoming import Incoming
from prefixdb.catalog.member_records import decode_member
from prefixdb.catalog.policy import BUILTIN_GROUP_NAMES
from prefixdb.catalog.schema import Tag
from prefixdb.errors import Reason, error
from prefixdb.keycodec import FAMILY_DATA, RowKey, family_span, namespace_span, split_system_key
from prefixdb.limits import ARCHIVE_FRAME_BYTES_MAX, ARCHIVE_FRAME_ROWS_MAX, MIB
from prefixdb.store.base import PackingCursor, Put, Row, Store
from prefixdb.store.version_rule import KEPT_VERSIONS

_FETCH_ROWS = 1_000
_FETCH_BYTES = 1 * MIB


class CloneContent:
    """``building.Content`` from a namespace of the same store; see the module's docstring.

    Args:
        store: the store.
        source_id: the namespace; the caller sees to it that a ban of it is not published meanwhile.
        incoming: judges members and groups for the target; None to leave them out.
        target_id: where to.
        progress: told of members and groups, and given an estimate of the rows.
    """

    def __init__(
        self, store: Store, source_id: int, target_id: int, *, incoming: Incoming | None, progress: Progress
    ) -> None:
        self._scanner = store.rows_scanner
        self._target_id = target_id
        self._source_head = family_span(source_id, FAMILY_DATA).begin
        self._target_head = family_span(target_id, FAMILY_DATA).begin
        self._incoming = incoming
        self._progress = progress
        self._ahead: list[Row] = []
        data = family_span(source_id, FAMILY_DATA)
        progress.rows_estimate = store.span_size(data).rows
        self._cursor = store.open_cursor(data if incoming is None else namespace_span(source_id), one_instant=True)

    def records(self) -> Iterator[Sequence[Put]]:
        """Yield the records of groups and members, when they are wanted, in pages."""
        if self._incoming is None:
            return
        while not self._ahead and (rows := self._fetch()):
            system = [row for row in rows if not row.key.startswith(self._source_head)]
            self._ahead = rows[len(system) :]
            puts = [put for row in system if (put := self._record(row, self._incoming)) is not None]
            self._progress.groups, self._progress.members = self._incoming.groups, self._incoming.members
            yield puts

    def pages(self) -> Iterator[Page]:
        """Yield the rows in pages, in order."""
        rows, self._ahead = self._ahead, []
        if not rows and not self._packs:
            rows = self._fetch()
        source, target, cut = self._source_head, self._target_head, len(self._source_head)
        while rows:
            if not all(row.key.startswith(source) for row in rows):
                raise error(Reason.INTERNAL, "A row outside the namespace that is cloned came back from the store.")
            yield [
                Put(RowKey(target + key[cut:]), payload, expires_at_ms, version)
                for key, payload, version, expires_at_ms in rows
            ]
            rows = [] if self._packs else self._fetch()
        yield from self._packed()

    @property
    def _packs(self) -> bool:
        return isinstance(self._cursor, PackingCursor) and self._scanner is not None

    def _packed(self) -> Iterator[Frame]:
        """Yield what is left as frames, of which no row becomes an object, when the store can make and take them."""
        cursor, scanner = self._cursor, self._scanner
        if not isinstance(cursor, PackingCursor) or scanner is None:
            return
        room = ARCHIVE_FRAME_BYTES_MAX - FRAME_HEAD_BYTES
        while (packed := cursor.pack(self._source_head, ARCHIVE_FRAME_ROWS_MAX, room)) is not None:
            facts = scanner.scan(packed.content)
            rows = decode_rows(packed.content) if facts is None else ScannedRows(packed.content, facts, scanner)
            # The cursor shows no row that had outlived itself when it was opened, and all others come along.
            yield Frame(rows, self._target_id, 0, KEPT_VERSIONS)

    def close(self) -> None:
        """Release what was opened; harmless when called again."""
        self._cursor.close()

    def _fetch(self) -> list[Row]:
        return self._cursor.fetch(_FETCH_ROWS, _FETCH_BYTES)

    def _record(self, row: Row, incoming: Incoming) -> Put | None:
        """Return the write of a system record in the target; None for one that stays behind."""
        _, tag, record_key = split_system_key(row.key)
        if tag == Tag.GROUP:
            name = schema.text_of(record_key)
            return None if name in BUILTIN_GROUP_NAMES else incoming.group(name, schema.decode_group(name, row).rules)
        if tag == Tag.MEMBER:
            return incoming.member(decode_member(schema.text_of(record_key), row))
        return None
