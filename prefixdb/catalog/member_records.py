"""Keys and codecs of the records about people: members, their grants and their logins.

Which fields there are stands on the one page of ``schema``. A member's name holds no NUL byte, so it ends at the first
one in the keys of grants and logins, and all of one member's lie beside each other.
"""

from __future__ import annotations

from prefixdb.catalog import schema
from prefixdb.catalog.entities import (
    GrantRecord,
    LoginRecord,
    MemberRecord,
    NamespaceIssue,
)
from prefixdb.catalog.schema import Tag
from prefixdb.catalog.typed import grant_fields, login_fields, member_fields
from prefixdb.keycodec import RowKey, Span, system_key, system_span
from prefixdb.limits import NAMESPACE_ID_MAX, TOKEN_LEEWAY_S
from prefixdb.records import encode_record
from prefixdb.store.base import Put, Row

_END = b"\0"
_ALL_ID = NAMESPACE_ID_MAX + 1
"""Stands for every namespace in the key of a grant; no namespace ever has it."""


# --- members -------------------------------------------------------------------------------------------------------


def member_key(namespace_id: int, name: str) -> RowKey:
    """Return the key of a member, in its home namespace."""
    return system_key(namespace_id, Tag.MEMBER, name.encode())


def members_span(namespace_id: int) -> Span:
    """Return the span of a namespace's members."""
    return system_span(namespace_id, Tag.MEMBER)


def member_put(namespace_id: int, record: MemberRecord) -> Put:
    """Return the write of a member's row."""
    main = record.main_namespace
    fields = {
        "groups": list(record.groups),
        "password_hash": record.password_hash,
        "disabled": record.disabled,
        "created_at_ms": record.created_at_ms,
        "updated_at_ms": record.updated_at_ms,
        "password_changed_at_ms": record.password_changed_at_ms,
        "privileges": [int(privilege) for privilege in record.privileges],
        "main": None if main is None else [main.namespace_id, main.incarnation],
    }
    return Put(member_key(namespace_id, record.name), encode_record(fields))


def decode_member(name: str, row: Row) -> MemberRecord:
    """Return the member that a row describes."""
    fields = member_fields(row.payload)
    return MemberRecord(
        name=name,
        groups=fields.groups,
        password_hash=fields.password_hash,
        disabled=fields.disabled,
        created_at_ms=fields.created_at_ms,
        updated_at_ms=fields.updated_at_ms,
        password_changed_at_ms=fields.password_changed_at_ms,
        privileges=fields.privileges,
        main_namespace=None if fields.main is None else NamespaceIssue(*fields.main),
        row_version=row.version,
    )


# --- grants --------------------------------------------------------------------------------------------------------


def grant_record_key(member: str, target_id: int | None) -> bytes:
    """Return the record key of what is said about a member and a namespace, or all of them (None)."""
    return member.encode() + _END + schema.id_bytes(_ALL_ID if target_id is None else target_id)


def grant_key(member: str, target_id: int | None) -> RowKey:
    """Return the row key of ``grant_record_key``."""
    return schema.catalog_key(Tag.GRANT, grant_record_key(member, target_id))


def grants_span(member: str = "") -> Span:
    """Return the span of the grants of one member, or of every member."""
    return schema.catalog_span(Tag.GRANT, member.encode() + _END if member else b"")


def grant_put(record: GrantRecord) -> Put:
    """Return the write of a grant's row."""
    target = record.target
    fields = {
        "incarnation": 0 if target is None else target.incarnation,
        "effect": int(record.effect),
        "groups": list(record.groups),
        "created_at_ms": record.created_at_ms,
    }
    return Put(grant_key(record.member, None if target is None else target.namespace_id), encode_record(fields))


def decode_grant(record_key: bytes, row: Row) -> GrantRecord:
    """Return the grant that a row describes."""
    member, end, target = record_key.partition(_END)
    if not end or len(target) != len(schema.id_bytes(0)):
        raise schema.damaged()
    target_id, _ = schema.split_id(target)
    fields = grant_fields(row.payload)
    return GrantRecord(
        member=schema.text_of(member),
        target=None if target_id == _ALL_ID else NamespaceIssue(target_id, fields.incarnation),
        effect=fields.effect,
        groups=fields.groups,
        created_at_ms=fields.created_at_ms,
    )


# --- logins --------------------------------------------------------------------------------------------------------


def login_key(home_id: int, member: str, family: str) -> RowKey:
    """Return the key of a login, in the member's home namespace."""
    return system_key(home_id, Tag.LOGIN, member.encode() + _END + family.encode())


def logins_span(home_id: int, member: str) -> Span:
    """Return the span of one member's logins."""
    return system_span(home_id, Tag.LOGIN, member.encode() + _END)


def login_put(home_id: int, record: LoginRecord) -> Put:
    """Return the write of a login's row; it leaves by itself once its refresh token has expired."""
    fields = {
        "refresh_jti": record.refresh_jti,
        "into": [record.into.namespace_id, record.into.incarnation],
        "created_at_ms": record.created_at_ms,
        "expires_at_ms": record.expires_at_ms,
    }
    key = login_key(home_id, record.member, record.family)
    return Put(key, encode_record(fields), record.expires_at_ms + TOKEN_LEEWAY_S * 1000)


def decode_login(record_key: bytes, row: Row) -> LoginRecord:
    """Return the login that a row describes."""
    member, end, family = record_key.partition(_END)
    if not end:
        raise schema.damaged()
    fields = login_fields(row.payload)
    return LoginRecord(
        family=schema.text_of(family),
        member=schema.text_of(member),
        refresh_jti=fields.refresh_jti,
        into=NamespaceIssue(*fields.into),
        created_at_ms=fields.created_at_ms,
        expires_at_ms=fields.expires_at_ms,
    )
