"""Creating the catalog in an empty store, and reading all of it back at start.

What cannot be trusted is refused here, before anything is served: a newer format, damaged records, and records that
contradict each other, for guessing which of two is right could bring a banned namespace back.
"""

from __future__ import annotations

from prefixdb import limits
from prefixdb.catalog import schema
from prefixdb.catalog.directory import Directory
from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    DEFAULT_NAMESPACE_NAME,
    Ban,
    MemberRecord,
    NamespaceRecord,
    NamespaceState,
    ServiceTokenRecord,
)
from prefixdb.catalog.member_records import member_put
from prefixdb.catalog.names import check_member_name
from prefixdb.catalog.policy import BUILTIN_GROUPS, GUARDIANS_GROUP
from prefixdb.catalog.schema import Tag
from prefixdb.clock import Clock
from prefixdb.errors import Reason, error
from prefixdb.keycodec import namespace_span
from prefixdb.records import encode_record
from prefixdb.store.base import Absent, Commit, Mutation, Put, Store


def open_catalog(store: Store, clock: Clock) -> None:
    """Check the catalog's format; in an empty store create namespace 0 and the catalog, in the store's first commit.

    Raises:
        FailedPreconditionError: FORMAT_TOO_NEW.
        DataLossError: CORRUPTION, there are rows of namespace 0 but no catalog.
    """
    row = store.get(schema.catalog_key(Tag.META))
    if row is None:
        _create_catalog(store, clock.now_ms())
        return
    found = schema.Fields(row.payload).integer("format")
    if found > schema.CATALOG_FORMAT:
        raise error(
            Reason.FORMAT_TOO_NEW,
            f"The catalog has format {found}, this prefixdb reads up to {schema.CATALOG_FORMAT}; use a newer one.",
        )


def load_directory(store: Store) -> Directory:
    """Return all namespaces and bans of the store.

    Raises:
        DataLossError: CORRUPTION, records are damaged or contradict each other.
    """
    records = [schema.decode_namespace(*found) for found in schema.rows_by_id(store, Tag.NAMESPACE)]
    bans = [schema.decode_ban(*found) for found in schema.rows_by_id(store, Tag.BAN)]
    names = {
        record_key.decode(errors="backslashreplace"): schema.Fields(row.payload).integer("id")
        for record_key, row in schema.rows_of(store, schema.catalog_span(Tag.NAME))
    }
    _check_consistent(records, bans, names)
    return Directory(records, bans)


def is_span_empty(store: Store, namespace_id: int) -> bool:
    """True when nothing, expired rows included, lies in the namespace's span."""
    cursor = store.open_cursor(namespace_span(namespace_id), keys_only=True, raw=True)
    try:
        return not cursor.fetch(1, 1)
    finally:
        cursor.close()


def name_put(record: NamespaceRecord) -> Put:
    """Return the write of a live namespace's entry in the name index."""
    return Put(schema.name_key(record.name), encode_record({"id": record.id}))


def group_puts(namespace_id: int) -> list[Put]:
    """Return the writes of the built-in groups."""
    return [Put(schema.group_key(namespace_id, group.name), schema.encode_group(group)) for group in BUILTIN_GROUPS]


def first_puts(
    namespace_id: int, token: ServiceTokenRecord | None = None, member: MemberRecord | None = None
) -> list[Put]:
    """Return the writes of what a namespace is created with: the built-in groups and its first guardian.

    Raises:
        ValueError: ``member`` is no ordinary guardian.
    """
    puts = group_puts(namespace_id)
    if token is not None:
        puts.append(service_token_put(namespace_id, token))
    if member is not None:
        check_member_name(member.name)
        if member.groups != (GUARDIANS_GROUP,) or member.privileges or member.main_namespace:
            raise ValueError("the first member of a namespace is a guardian and nothing else")
        puts.append(member_put(namespace_id, member))
    return puts


def service_token_put(namespace_id: int, record: ServiceTokenRecord) -> Put:
    """Return the write of a service token's record; the row leaves by itself once the token has expired."""
    expires_at_ms = (record.expires_at_s + limits.TOKEN_LEEWAY_S) * 1000
    key = schema.service_token_key(namespace_id, record.jti)
    return Put(key, schema.encode_service_token(record), expires_at_ms)


def meta_put(created_at_ms: int, guardian_token_at_ms: int) -> Put:
    """Return the write of the catalog's own record."""
    fields = {
        "format": schema.CATALOG_FORMAT,
        "created_at_ms": created_at_ms,
        "guardian_token_at_ms": guardian_token_at_ms,
    }
    return Put(schema.catalog_key(Tag.META), encode_record(fields))


def _create_catalog(store: Store, now_ms: int) -> None:
    if not is_span_empty(store, DEFAULT_NAMESPACE_ID):
        raise error(Reason.CORRUPTION, "The store has rows of namespace 0 but no catalog; restore a backup.")
    record = NamespaceRecord(
        DEFAULT_NAMESPACE_ID, DEFAULT_NAMESPACE_NAME, NamespaceState.ACTIVE, 0, {}, now_ms, now_ms, "", 0
    )
    meta = meta_put(now_ms, 0)
    writes: list[Mutation] = [
        meta,
        Put(schema.namespace_key(record.id), schema.encode_namespace(record, creating=True)),
        name_put(record),
        *group_puts(record.id),
    ]
    result = store.commit(Commit(tuple(writes), guards=(Absent(meta.key),)))
    if not result.applied:
        raise error(Reason.INTERNAL, "Another writer created the catalog.")


def _check_consistent(records: list[NamespaceRecord], bans: list[Ban], names: dict[str, int]) -> None:
    if not records or records[0].id != DEFAULT_NAMESPACE_ID:
        raise error(Reason.CORRUPTION, "Namespace 0 has no record; restore a backup.")
    live: dict[str, int] = {}
    dropped: dict[int, NamespaceRecord] = {}
    for record in records:
        if record.state < NamespaceState.BANNED:
            live[record.name] = record.id
        else:
            dropped[record.id] = record
    if dropped.keys() != {ban.namespace_id for ban in bans}:
        raise error(Reason.CORRUPTION, "The ban manifest and the namespace records disagree; restore a backup.")
    if names != live:
        raise error(Reason.CORRUPTION, "The name index and the namespace records disagree; restore a backup.")
    for ban in bans:
        record = dropped[ban.namespace_id]
        state = NamespaceState.RECLAIMED if ban.reclaimed_at_ms else NamespaceState.BANNED
        if record.state is not state or record.incarnation != ban.incarnation:
            raise error(Reason.CORRUPTION, "A ban and its namespace record disagree; restore a backup.")
