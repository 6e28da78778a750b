"""Exporting: one namespace's rows, or a part of them, as the frames of an archive, all of one instant.

The instant is the moment the one cursor is opened: it walks the whole span, every database of it, and with members also
the system records in front of the data, so that groups, members and rows are those of the same moment. Every key that
comes out of it is compared with the namespace's head once more before it becomes part of an archive.

Blocks, a frame at a time; call ``Exporter.next`` in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prefixdb.archive import ArchiveWriter, Group, GroupRule, Header, Member, group_batches, member_batches
from prefixdb.backup.packing import foreign, row_frames
from prefixdb.catalog import schema
from prefixdb.catalog.entities import NamespaceRecord
from prefixdb.catalog.member_records import decode_member
from prefixdb.catalog.policy import BUILTIN_GROUP_NAMES
from prefixdb.catalog.schema import Tag
from prefixdb.clock import Clock
from prefixdb.keycodec import (
    DATA_HEAD_BYTES,
    FAMILY_DATA,
    Span,
    data_key,
    family_span,
    is_data_key,
    prefix_span,
    split_system_key,
    system_key,
)
from prefixdb.limits import MIB
from prefixdb.store.base import Cursor, Row, Store
from prefixdb.version import VERSION

_FAMILY_HEAD_BYTES = 9
"""Namespace and family in front of a row key."""

_PAGE_ROWS = 1_000
"""System records fetched at once."""

_PAGE_BYTES = 1 * MIB


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is exported.

    database: None for every database; ``prefix`` is empty then.
    members: members and groups too; of all rows only.
    labels: the namespace's labels too: they are its guardians' and the cluster's affair, as in a list of namespaces.
    codec: "zstd" or "none".
    """

    record: NamespaceRecord
    database: int | None = None
    prefix: bytes = b""
    members: bool = False
    labels: bool = False
    codec: str = "zstd"

    @property
    def rows_span(self) -> Span:
        """The span of the rows."""
        if self.database is None:
            return family_span(self.record.id, FAMILY_DATA)
        return prefix_span(self.record.id, self.database, self.prefix)


class Piece(NamedTuple):
    """The next frames of the archive, and how many rows there are in all frames so far."""

    frames: Sequence[bytes]
    rows_done: int


class Exporter:
    """One export. Not thread-safe, but each call may come from another thread; only ``close`` may meet another call.

    Making one opens the cursor and does nothing else, so that can be done where waiting is not.

    Args:
        store: the rows; the instant is when this is made.
        clock: for the header.
        wanted: what.
    """

    def __init__(self, store: Store, clock: Clock, wanted: Wanted) -> None:
        database = wanted.database
        # What every key has to begin with; made on another way than the span.
        head = data_key(wanted.record.id, database or 0, b"x")
        self._head = head[: _FAMILY_HEAD_BYTES if database is None else DATA_HEAD_BYTES]
        self._namespace_id = wanted.record.id
        span = wanted.rows_span
        if wanted.members:
            span = Span(system_key(wanted.record.id, Tag.GROUP), span.end)
        self._cursor: Cursor = store.open_cursor(span, one_instant=True)
        self._store = store
        self._wanted = wanted
        self._made_at_ms = clock.now_ms()
        self._frames = self._make()
        self._rows_done = 0

    def next(self) -> Piece | None:
        """Return the next piece, None after the footer.

        Raises:
            DataLossError: CORRUPTION, at the point of damage; what was made so far must not be taken for an archive.
            InternalError: a row outside the namespace came back from the store.
        """
        frames = next(self._frames, None)
        return None if frames is None else Piece(frames, self._rows_done)

    def close(self) -> None:
        """Release the view; the thread that is in ``next`` meets an error. Harmless when called again."""
        self._cursor.close()

    def _make(self) -> Iterator[Sequence[bytes]]:
        # Asked for later than the instant, so no row in the archive can have a greater version.
        last_version = self._store.status().last_version
        self._writer = ArchiveWriter(_header(self._wanted, self._made_at_ms, last_version))
        yield [self._writer.header()]
        rows: Sequence[Row] = ()
        if self._wanted.members:
            groups, members, rows = self._system()
            for batch in group_batches(groups):
                yield [self._writer.groups(batch)]
            for some in member_batches(members):
                yield [self._writer.members(some)]
        for frame, count in row_frames(self._writer, self._cursor, self._head, rows):
            self._rows_done += count
            yield [frame]
        yield [self._writer.footer()]

    def _system(self) -> tuple[list[Group], list[Member], Sequence[Row]]:
        """Return groups and members, and what was fetched of the data behind them."""
        groups: list[Group] = []
        members: list[Member] = []
        while rows := self._cursor.fetch(_PAGE_ROWS, _PAGE_BYTES):
            system = [row for row in rows if not is_data_key(row.key)]
            self._take_system(system, groups, members)
            if len(system) < len(rows):
                return groups, members, rows[len(system) :]
        return groups, members, ()

    def _take_system(self, rows: Sequence[Row], groups: list[Group], members: list[Member]) -> None:
        """Take what travels of the namespace's system records."""
        for row in rows:
            namespace_id, tag, record_key = split_system_key(row.key)
            if namespace_id != self._namespace_id:
                raise foreign()
            if tag == Tag.GROUP:
                group = schema.decode_group(schema.text_of(record_key), row)
                if group.name not in BUILTIN_GROUP_NAMES:
                    rules = tuple(GroupRule(rule.database, rule.prefix, rule.read, rule.write) for rule in group.rules)
                    groups.append(Group(group.name, rules))
            elif tag == Tag.MEMBER:
                found = decode_member(schema.text_of(record_key), row)
                members.append(
                    Member(
                        name=found.name,
                        groups=found.groups,
                        password_hash=found.password_hash,
                        disabled=found.disabled,
                        created_at_ms=found.created_at_ms,
                        updated_at_ms=found.updated_at_ms,
                        password_changed_at_ms=found.password_changed_at_ms,
                    )
                )


def _header(wanted: Wanted, now_ms: int, last_version: int) -> Header:
    record = wanted.record
    return Header(
        kind="namespace" if wanted.database is None else "export",
        codec=wanted.codec,
        created_at_ms=now_ms,
        server=f"prefixdb {VERSION}",
        namespace_id=record.id,
        namespace=record.name,
        incarnation=record.incarnation,
        labels=dict(record.labels) if wanted.labels else {},
        database=wanted.database,
        prefix=wanted.prefix,
        last_version=last_version,
    )
