"""Every system record of the catalog: its tag, its key and its fields, on one page.

    where                  tag                  record key               fields of the record (msgpack map)
    namespace 0            0x01 META            (empty)                  format, created_at_ms, guardian_token_at_ms
    namespace 0            0x02 NAMESPACE       id u64                   name, state, labels, created_at_ms,
                                                                         updated_at_ms, reason, [incarnation]
    namespace 0            0x03 NAME            name utf-8               id            (live namespaces only)
    namespace 0            0x04 BAN             id u64                   [incarnation], name, banned_at_ms, by, reason,
                                                                         reclaim_after_ms, prior_state, prior_reason,
                                                                         started_at_ms, bytes_before, rows_before,
                                                                         reclaimed_at_ms, [staged: true]
    namespace 0            0x05 REPORT          id u64, incarnation u64  name, banned_at_ms, by, reason,
                                                                         reclaim_after_ms, started_at_ms,
                                                                         finished_at_ms, bytes_total, bytes_freed,
                                                                         rows_dropped
    namespace 0            0x06 WATERMARK       (empty) | id u64 |       at_ms         (the row's version is the mark)
                                                id u64, subject utf-8
    namespace 0            0x07 SIGNING_KEY     kid ascii                algorithm, public, created_at_ms,
                                                                         verify_until_ms (0: it signs),
                                                                         [issued_until_ms]
    namespace 0            0x08 REVOKED_TOKEN   id u64, jti ascii        expires_at_s
    the namespace's own    0x20 GROUP           name utf-8               rules: [[database | nil, prefix, read, write]]
    the namespace's own    0x21 SERVICE_TOKEN   jti ascii                subject, groups, guardian, issued_at_s,
                                                                         expires_at_s, issued_by, minted_by, revision,
                                                                         revoked
    the namespace's own    0x22 MEMBER          name ascii               groups, password_hash, disabled,
                                                                         created_at_ms, updated_at_ms,
                                                                         password_changed_at_ms, privileges: [number],
                                                                         main: [id, incarnation] | nil
    namespace 0            0x23 GRANT           member ascii, 0x00,      incarnation, effect, groups, created_at_ms
                                                id u64 (2^64-1: all)
    the member's own       0x24 LOGIN           member ascii, 0x00,      refresh_jti, into: [id, incarnation],
                                                family ascii             created_at_ms, expires_at_ms
    the namespace's own    0x25 IMPORT          subject's digest 16,     phase, on_conflict, keep_order, counts, frames,
                                                upload 16, [attempt 8]   digest, rows, row_bytes, first, last, way,
                                                                         blocks, attempt, position, inserted, replaced,
                                                                         skipped, expired, reason

Tag 0x00 is the store's, 0x26 and up are free. The keys and codecs of MEMBER, GRANT and LOGIN are in ``member_records``,
those of IMPORT in ``backup.import_record``, those of all others here. The row that creates a namespace omits
``incarnation``: the version of its own commit is it, and nobody knows that number before the commit; every later
rewrite carries it. The ban with which a staged namespace begins (see ``staging``) omits it for the same reason.

What is about a namespace but must outlive or outrank it (its record, ban, report, revocations) lies in namespace 0, so
that it is found with one scan at start and no tenant's span has to be read. Everything else lies under the namespace's
own prefix and goes when that prefix is dropped.

A record that lacks a field or has one of a wrong type is DATA_LOSS: it is never guessed at.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import Any, TypeVar

from msgspec import UnsetType

from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    Ban,
    Group,
    Guardian,
    NamespaceRecord,
    ReclaimPhase,
    ReclaimReport,
    Rule,
    ServiceTokenRecord,
)
from prefixdb.catalog.typed import ban_fields, group_fields, namespace_fields
from prefixdb.errors import Reason, error
from prefixdb.keycodec import RowKey, Span, split_system_key, system_key, system_span
from prefixdb.records import decode_record, encode_record
from prefixdb.store.base import Row, Store

CATALOG_FORMAT = 1
"""Format of the catalog as a whole; a directory with a larger one is refused."""

T = TypeVar("T")

_ID = struct.Struct(">Q")
_SCAN_ROWS = 1_000
_SCAN_BYTES = 1 << 20


class Tag(enum.IntEnum):
    """First byte of a system record's key inside its namespace."""

    META = 0x01
    NAMESPACE = 0x02
    NAME = 0x03
    BAN = 0x04
    REPORT = 0x05
    WATERMARK = 0x06
    SIGNING_KEY = 0x07
    REVOKED_TOKEN = 0x08
    GROUP = 0x20
    SERVICE_TOKEN = 0x21
    MEMBER = 0x22
    GRANT = 0x23
    LOGIN = 0x24
    IMPORT = 0x25


# --- keys ----------------------------------------------------------------------------------------------------------


def catalog_key(tag: Tag, record_key: bytes = b"") -> RowKey:
    """Return the row key of a record in namespace 0."""
    return system_key(DEFAULT_NAMESPACE_ID, tag, record_key)


def catalog_span(tag: Tag, record_prefix: bytes = b"") -> Span:
    """Return the span of namespace 0's records of one tag."""
    return system_span(DEFAULT_NAMESPACE_ID, tag, record_prefix)


def id_bytes(namespace_id: int) -> bytes:
    """Return the id as it stands in record keys: 8 bytes, big-endian."""
    return _ID.pack(namespace_id)


def split_id(record_key: bytes) -> tuple[int, bytes]:
    """Return (namespace id, rest) of a record key that starts with an id."""
    if len(record_key) < _ID.size:
        raise damaged()
    return int(_ID.unpack_from(record_key)[0]), record_key[_ID.size :]


def namespace_key(namespace_id: int) -> RowKey:
    """Return the key of a namespace's record."""
    return catalog_key(Tag.NAMESPACE, id_bytes(namespace_id))


def name_key(name: str) -> RowKey:
    """Return the key of a live namespace's entry in the name index."""
    return catalog_key(Tag.NAME, name.encode())


def ban_key(namespace_id: int) -> RowKey:
    """Return the key of a namespace's record in the ban manifest."""
    return catalog_key(Tag.BAN, id_bytes(namespace_id))


def report_key(namespace_id: int, incarnation: int) -> RowKey:
    """Return the key of the final report of one reclaim."""
    return catalog_key(Tag.REPORT, id_bytes(namespace_id) + id_bytes(incarnation))


def watermark_key(namespace_id: int | None, subject: str | None = None) -> RowKey:
    """Return the key of a revocation watermark: of everyone (None), of a namespace, or of one subject in it."""
    if namespace_id is None:
        return catalog_key(Tag.WATERMARK)
    return catalog_key(Tag.WATERMARK, id_bytes(namespace_id) + (subject or "").encode())


def revoked_token_key(namespace_id: int, jti: str) -> RowKey:
    """Return the key of the tombstone of one revoked token."""
    return catalog_key(Tag.REVOKED_TOKEN, id_bytes(namespace_id) + jti.encode())


def signing_key_key(kid: str) -> RowKey:
    """Return the key of a public signing key."""
    return catalog_key(Tag.SIGNING_KEY, kid.encode())


def group_key(namespace_id: int, name: str) -> RowKey:
    """Return the key of a group, in its own namespace."""
    return system_key(namespace_id, Tag.GROUP, name.encode())


def service_token_key(namespace_id: int, jti: str) -> RowKey:
    """Return the key of a service token's record, in its own namespace."""
    return system_key(namespace_id, Tag.SERVICE_TOKEN, jti.encode())


def rows_of(store: Store, span: Span, *, keys_only: bool = False) -> Iterator[tuple[bytes, Row]]:
    """Yield (record key, row) of every live record in ``span``, in key order, from one consistent view."""
    cursor = store.open_cursor(span, keys_only=keys_only)
    try:
        while rows := cursor.fetch(_SCAN_ROWS, _SCAN_BYTES):
            for row in rows:
                yield record_key_of(row), row
    finally:
        cursor.close()


def page_of(store: Store, whole: Span, after: bytes, limit: int) -> list[tuple[bytes, Row]]:
    """Return (record key, row) of up to ``limit`` live records of a tag, in key order.

    Args:
        store: the store.
        whole: the span of the records.
        after: only those whose record keys are above this; empty for the first page.
        limit: at least 1.
    """
    begin = RowKey(whole.begin[: len(system_key(0, 0))] + after + b"\0") if after else whole.begin
    if begin >= whole.end:
        return []
    found: list[tuple[bytes, Row]] = []
    cursor = store.open_cursor(Span(max(begin, whole.begin), whole.end))
    try:
        while len(found) < limit and (rows := cursor.fetch(limit - len(found), _SCAN_BYTES)):
            found += [(record_key_of(row), row) for row in rows]
    finally:
        cursor.close()
    return found


def record_key_of(row: Row) -> bytes:
    """Return the record key of a system row."""
    return split_system_key(row.key)[2]


def text_of(record_key: bytes) -> str:
    """Return the text a record key, or a part of it, stands for."""
    try:
        return record_key.decode()
    except UnicodeDecodeError:
        raise damaged() from None


def rows_by_id(store: Store, tag: Tag) -> Iterator[tuple[int, Row]]:
    """Yield (namespace id, row) of every record of a tag whose record key is an id, by id. Made for very many."""
    cursor = store.open_cursor(catalog_span(tag))
    head = len(catalog_key(tag))
    try:
        while rows := cursor.fetch(_SCAN_ROWS, _SCAN_BYTES):
            for row in rows:
                if len(row.key) != head + _ID.size:
                    raise damaged()
                yield int.from_bytes(row.key[head:]), row
    finally:
        cursor.close()


# --- records -------------------------------------------------------------------------------------------------------


class Fields:
    """The fields of a decoded record, each read with its type.

    Raises:
        DataLossError: CORRUPTION, a field is missing or has another type.
    """

    def __init__(self, payload: bytes) -> None:
        self._fields = decode_record(payload)

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def integer(self, name: str) -> int:
        """Return an integer field, 0 .. 2^64-1."""
        value = self._fields.get(name)
        if type(value) is not int or value < 0:  # bool is an int and never one here
            raise damaged()
        return value

    def text(self, name: str) -> str:
        """Return a text field."""
        return self._typed(name, str)

    def blob(self, name: str) -> bytes:
        """Return a bytes field."""
        return self._typed(name, bytes)

    def flag(self, name: str) -> bool:
        """Return a boolean field."""
        return self._typed(name, bool)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        values = self._typed(name, list)
        if not all(type(value) is str for value in values):
            raise damaged()
        return tuple(values)

    def _typed(self, name: str, kind: type[T]) -> T:
        value = self._fields.get(name)
        if not isinstance(value, kind):
            raise damaged()
        return value


def encode_namespace(record: NamespaceRecord, *, creating: bool = False) -> bytes:
    """Return the payload of a namespace's row; ``creating`` leaves the incarnation to the row's version."""
    fields: dict[str, Any] = {
        "name": record.name,
        "state": int(record.state),
        "labels": dict(record.labels),
        "created_at_ms": record.created_at_ms,
        "updated_at_ms": record.updated_at_ms,
        "reason": record.state_reason,
    }
    if not creating:
        fields["incarnation"] = record.incarnation
    return encode_record(fields)


def decode_namespace(namespace_id: int, row: Row) -> NamespaceRecord:
    """Return the namespace that a row describes."""
    fields = namespace_fields(row.payload)
    incarnation = row.version if isinstance(fields.incarnation, UnsetType) else fields.incarnation
    return (
        NamespaceRecord(  # By position, which is twice as fast; ``tests/unit/test_catalog_schema.py`` pins the order.
            namespace_id,
            fields.name,
            fields.state,
            incarnation,
            fields.labels,
            fields.created_at_ms,
            fields.updated_at_ms,
            fields.reason,
            row.version,
        )
    )


def encode_ban(ban: Ban, *, creating: bool = False) -> bytes:
    """Return the payload of a ban manifest record; ``creating`` leaves the incarnation to the row's version."""
    head = {} if creating else {"incarnation": ban.incarnation}
    tail = {"staged": True} if ban.staged else {}
    return encode_record(
        head
        | {
            "name": ban.name,
            "banned_at_ms": ban.banned_at_ms,
            "by": ban.by,
            "reason": ban.reason,
            "reclaim_after_ms": ban.reclaim_after_ms,
            "prior_state": int(ban.prior_state),
            "prior_reason": ban.prior_reason,
            "started_at_ms": ban.reclaim_started_at_ms,
            "bytes_before": ban.bytes_before,
            "rows_before": ban.rows_before,
            "reclaimed_at_ms": ban.reclaimed_at_ms,
        }
        | tail
    )


def decode_ban(namespace_id: int, row: Row) -> Ban:
    """Return the ban that a row describes."""
    fields = ban_fields(row.payload)
    incarnation = fields.incarnation
    if isinstance(incarnation, UnsetType):
        if not fields.staged:
            raise damaged()
        incarnation = row.version
    return Ban(  # By position, as above.
        namespace_id,
        incarnation,
        fields.name,
        fields.banned_at_ms,
        fields.by,
        fields.reason,
        fields.reclaim_after_ms,
        fields.prior_state,
        fields.prior_reason,
        fields.started_at_ms,
        fields.bytes_before,
        fields.rows_before,
        fields.reclaimed_at_ms,
        fields.staged,
    )


def encode_report(report: ReclaimReport) -> bytes:
    """Return the payload of a final report. Phase and findings are not stored: DONE and zero is what it means."""
    return encode_record(
        {
            "name": report.name,
            "banned_at_ms": report.banned_at_ms,
            "by": report.banned_by,
            "reason": report.reason,
            "reclaim_after_ms": report.reclaim_after_ms,
            "started_at_ms": report.started_at_ms,
            "finished_at_ms": report.finished_at_ms,
            "bytes_total": report.bytes_total,
            "bytes_freed": report.bytes_freed,
            "rows_dropped": report.rows_dropped,
        }
    )


def decode_report(record_key: bytes, row: Row) -> ReclaimReport:
    """Return the final report that a row describes."""
    namespace_id, rest = split_id(record_key)
    incarnation, _ = split_id(rest)
    fields = Fields(row.payload)
    return ReclaimReport(
        namespace_id=namespace_id,
        name=fields.text("name"),
        incarnation=incarnation,
        phase=ReclaimPhase.DONE,
        banned_at_ms=fields.integer("banned_at_ms"),
        banned_by=fields.text("by"),
        reason=fields.text("reason"),
        reclaim_after_ms=fields.integer("reclaim_after_ms"),
        started_at_ms=fields.integer("started_at_ms"),
        finished_at_ms=fields.integer("finished_at_ms"),
        bytes_total=fields.integer("bytes_total"),
        bytes_done=fields.integer("bytes_total"),
        bytes_freed=fields.integer("bytes_freed"),
        rows_dropped=fields.integer("rows_dropped"),
    )


def encode_group(group: Group) -> bytes:
    """Return the payload of a group."""
    return encode_record({"rules": [[rule.database, rule.prefix, rule.read, rule.write] for rule in group.rules]})


def decode_group(name: str, row: Row) -> Group:
    """Return the group that a row describes."""
    return Group(name, tuple(Rule(*entry) for entry in group_fields(row.payload).rules))


def encode_service_token(record: ServiceTokenRecord) -> bytes:
    """Return the payload of a service token's record; the token itself is nowhere in it."""
    return encode_record(
        {
            "subject": record.subject,
            "groups": list(record.groups),
            "guardian": int(record.guardian),
            "issued_at_s": record.issued_at_s,
            "expires_at_s": record.expires_at_s,
            "issued_by": record.issued_by,
            "minted_by": record.minted_by,
            "revision": record.revision,
            "revoked": record.revoked,
        }
    )


def decode_service_token(jti: str, row: Row) -> ServiceTokenRecord:
    """Return the service token's record that a row describes."""
    fields = Fields(row.payload)
    guardian = fields.integer("guardian")
    if guardian not in Guardian._value2member_map_:
        raise damaged()
    return ServiceTokenRecord(
        jti=jti,
        subject=fields.text("subject"),
        groups=fields.texts("groups"),
        guardian=Guardian(guardian),
        issued_at_s=fields.integer("issued_at_s"),
        expires_at_s=fields.integer("expires_at_s"),
        issued_by=fields.text("issued_by"),
        minted_by=fields.text("minted_by"),
        revision=fields.integer("revision"),
        revoked=fields.flag("revoked"),
    )


def damaged() -> Exception:
    """Return what is raised for a record that cannot be what it should be."""
    return error(Reason.CORRUPTION, "A system record has a missing, unknown or mistyped field.")
