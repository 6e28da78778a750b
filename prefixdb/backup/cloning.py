"""What a clone is made of: everything another namespace has at one instant, moved under another number.

One cursor sees all of it, groups and members too, so that a member never comes without its group. Tokens and logins are
the source's and stay there. Rows keep their versions, which this store gave out, and their lifetimes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefixdb.backup.building import Progress
from prefixdb.catalog import schema
from prefixdb.catalog.incoming import Incoming
from prefixdb.catalog.member_records import decode_member
from prefixdb.catalog.policy import BUILTIN_GROUP_NAMES
from prefixdb.catalog.schema import Tag
from prefixdb.errors import Reason, error
from prefixdb.keycodec import FAMILY_DATA, RowKey, family_span, namespace_span, split_system_key
from prefixdb.limits import MIB
from prefixdb.store.base import Put, Row, Store

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

    def pages(self) -> Iterator[Sequence[Put]]:
        """Yield the rows in pages, in order."""
        rows = self._ahead or self._fetch()
        self._ahead = []
        source, target, cut = self._source_head, self._target_head, len(self._source_head)
        while rows:
            if not all(row.key.startswith(source) for row in rows):
                raise error(Reason.INTERNAL, "A row outside the namespace that is cloned came back from the store.")
            yield [
                Put(RowKey(target + key[cut:]), payload, expires_at_ms, version)
                for key, payload, version, expires_at_ms in rows
            ]
            rows = self._fetch()

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
