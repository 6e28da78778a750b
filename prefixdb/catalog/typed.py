"""Fast decoding of the records that are read very often: namespaces and bans by the hundred thousand at start; members,
groups, grants and logins whenever somebody is admitted.

The field-by-field way of ``schema.Fields`` costs 8 µs a record, most of it in building and asking a dict. Here msgspec
checks presence and types while it reads, for half a microsecond; what it refuses is refused for the same reasons.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from prefixdb.catalog.entities import GrantEffect, NamespaceState, Privilege
from prefixdb.errors import Reason, error
from prefixdb.limits import DATABASE_MAX
from prefixdb.records import RECORD_FORMAT, decode_record

Natural = Annotated[int, msgspec.Meta(ge=0)]


class NamespaceFields(msgspec.Struct, frozen=True, gc=False):
    """The fields of a NAMESPACE record, as ``schema`` lists them."""

    name: str
    state: NamespaceState
    labels: dict[str, str]
    created_at_ms: Natural
    updated_at_ms: Natural
    reason: str
    incarnation: Natural | msgspec.UnsetType = msgspec.UNSET


class BanFields(msgspec.Struct, frozen=True, gc=False):
    """The fields of a BAN record, as ``schema`` lists them."""

    name: str
    banned_at_ms: Natural
    by: str
    reason: str
    reclaim_after_ms: Natural
    prior_state: NamespaceState
    prior_reason: str
    started_at_ms: Natural
    bytes_before: Natural
    rows_before: Natural
    reclaimed_at_ms: Natural
    incarnation: Natural | msgspec.UnsetType = msgspec.UNSET
    staged: bool = False


Database = Annotated[int, msgspec.Meta(ge=0, le=DATABASE_MAX)]
Issue = tuple[Natural, Natural]
"""A namespace's id and incarnation."""


class GroupFields(msgspec.Struct, frozen=True, gc=False):
    """The fields of a GROUP record, as ``schema`` lists them."""

    rules: list[tuple[Database | None, bytes, bool, bool]]


class MemberFields(msgspec.Struct, frozen=True, gc=False):
    """The fields of a MEMBER record, as ``schema`` lists them."""

    groups: tuple[str, ...]
    password_hash: str
    disabled: bool
    created_at_ms: Natural
    updated_at_ms: Natural
    password_changed_at_ms: Natural
    privileges: tuple[Privilege, ...]
    main: Issue | None


class GrantFields(msgspec.Struct, frozen=True, gc=False):
    """The fields of a GRANT record, as ``schema`` lists them."""

    incarnation: Natural
    effect: GrantEffect
    groups: tuple[str, ...]
    created_at_ms: Natural


class LoginFields(msgspec.Struct, frozen=True, gc=False):
    """The fields of a LOGIN record, as ``schema`` lists them."""

    refresh_jti: str
    into: Issue
    created_at_ms: Natural
    expires_at_ms: Natural


_T = TypeVar("_T")

_NAMESPACE = msgspec.msgpack.Decoder(NamespaceFields)
_BAN = msgspec.msgpack.Decoder(BanFields)
_GROUP = msgspec.msgpack.Decoder(GroupFields)
_MEMBER = msgspec.msgpack.Decoder(MemberFields)
_GRANT = msgspec.msgpack.Decoder(GrantFields)
_LOGIN = msgspec.msgpack.Decoder(LoginFields)


def namespace_fields(payload: bytes) -> NamespaceFields:
    """Return the fields of a NAMESPACE record.

    Raises:
        FailedPreconditionError: FORMAT_TOO_NEW.
        DataLossError: CORRUPTION, a field is missing or has another type.
    """
    return _decode(_NAMESPACE, payload)


def ban_fields(payload: bytes) -> BanFields:
    """Return the fields of a BAN record; raises as ``namespace_fields``."""
    return _decode(_BAN, payload)


def group_fields(payload: bytes) -> GroupFields:
    """Return the fields of a GROUP record; raises as ``namespace_fields``."""
    return _decode(_GROUP, payload)


def member_fields(payload: bytes) -> MemberFields:
    """Return the fields of a MEMBER record; raises as ``namespace_fields``."""
    return _decode(_MEMBER, payload)


def grant_fields(payload: bytes) -> GrantFields:
    """Return the fields of a GRANT record; raises as ``namespace_fields``."""
    return _decode(_GRANT, payload)


def login_fields(payload: bytes) -> LoginFields:
    """Return the fields of a LOGIN record; raises as ``namespace_fields``."""
    return _decode(_LOGIN, payload)


def _decode(decoder: msgspec.msgpack.Decoder[_T], payload: bytes) -> _T:
    if payload[:1] != _FORMAT:
        decode_record(payload)  # Raises: it knows what to say about other formats.
    try:
        return decoder.decode(payload[1:])
    except msgspec.MsgspecError as damage:
        raise error(Reason.CORRUPTION, "A system record has a missing, unknown or mistyped field.") from damage


_FORMAT = bytes([RECORD_FORMAT])
