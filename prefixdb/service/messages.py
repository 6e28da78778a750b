"""Catalog values to and from the messages of the administrative services.

Times and durations are well-known types on the wire and integers inside; every one that comes in is checked against the
range its type allows before it is used. Page tokens are opaque to clients: position and kind under a format byte.
"""

from __future__ import annotations

import base64
import binascii

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from prefixdb.catalog.entities import Ban, NamespaceRecord, ReclaimReport, ServiceTokenRecord
from prefixdb.catalog.keyring import VerifyingKey
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import Rule
from prefixdb.errors import Reason, bad_field, error
from prefixdb.limits import LIST_PAGE_ENTRIES_MAX
from prefixdb.v1 import auth_pb2, namespaces_pb2

PAGE_ENTRIES_DEFAULT = 100
"""Entries of a page when the request does not say."""

_DURATION_S_MAX = 315_576_000_000
_NANOS_MAX = 999_999_999
_PAGE_FORMAT = b"\x01"
_PAGE_POSITION_BYTES_MAX = 256


def timestamp(ms: int) -> Timestamp | None:
    """Return a time in milliseconds as a message, None for 0 (not set)."""
    if not ms:
        return None
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def duration(ms: int) -> Duration:
    """Return milliseconds as a message."""
    return Duration(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def duration_ms(message: Duration, field: str) -> int:
    """Return a duration in milliseconds, rounded up so that something asked for never becomes nothing.

    Raises:
        InvalidArgumentError: BAD_FIELD when it is negative or no valid duration.
    """
    if not 0 <= message.seconds <= _DURATION_S_MAX or not 0 <= message.nanos <= _NANOS_MAX:
        raise bad_field(field, "must be a duration of zero or more.")
    return message.seconds * 1000 + -(-message.nanos // 1_000_000)


def whole_seconds(message: Duration, field: str) -> int:
    """Return a token's lifetime in whole seconds, rounded up; raises as ``duration_ms``."""
    return -(-duration_ms(message, field) // 1000)


def page_size(asked: int) -> int:
    """Return how many entries a page has.

    Raises:
        InvalidArgumentError: BAD_FIELD (page_size).
    """
    if asked > LIST_PAGE_ENTRIES_MAX:
        raise bad_field("page_size", f"must be at most {LIST_PAGE_ENTRIES_MAX}.")
    return asked or PAGE_ENTRIES_DEFAULT


def encode_page_token(kind: bytes, position: bytes) -> str:
    """Return the token of the page after ``position``; ``kind`` is one byte that names the list."""
    return base64.urlsafe_b64encode(_PAGE_FORMAT + kind + position).decode("ascii").rstrip("=")


def decode_page_token(kind: bytes, token: str) -> bytes | None:
    """Return the position of a page token, None for the first page.

    Raises:
        InvalidArgumentError: BAD_FIELD (page_token) when this list did not make it.
    """
    if not token:
        return None
    head = _PAGE_FORMAT + kind
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if not raw.startswith(head) or len(raw) > _PAGE_POSITION_BYTES_MAX or encode_page_token(kind, raw[2:]) != token:
        raise bad_field("page_token", "is not a page token of this list.")
    return raw[len(head) :]


def check_mask(mask: FieldMask, allowed: frozenset[str]) -> frozenset[str]:
    """Return the paths of an update mask.

    Raises:
        InvalidArgumentError: BAD_FIELD (update_mask) when it is empty or names something else.
    """
    paths = frozenset(mask.paths)
    if not paths or not paths <= allowed:
        raise bad_field("update_mask", f"must name at least one of: {', '.join(sorted(allowed))}.")
    return paths


def find_namespace(registry: Registry, ref: namespaces_pb2.NamespaceRef) -> NamespaceRecord | None:
    """Return the namespace a reference names, None when there is none.

    Raises:
        InvalidArgumentError: BAD_FIELD (namespace) when the reference says nothing.
    """
    which = ref.WhichOneof("ref")
    if which == "id":
        return registry.find(ref.id)
    if which == "name":
        return registry.find(ref.name)
    raise bad_field("namespace", "must have an id or a name.")


def describe(record: NamespaceRecord) -> str:
    """Return a namespace as the target of an audit line."""
    return f"namespace {record.id} {record.name}"


def glimpse_message(record: NamespaceRecord) -> namespaces_pb2.Namespace:
    """Return what somebody who may use a namespace, and no more, is shown of it."""
    return namespaces_pb2.Namespace(
        id=record.id,
        name=record.name,
        state=int(record.state),  # type: ignore[arg-type]  # an open enum takes its number
    )


def known(record: NamespaceRecord | None) -> NamespaceRecord:
    """Return a namespace that policy has let through.

    Raises:
        NotFoundError: NAMESPACE_NOT_FOUND. Policy refuses None; should it ever not, nothing is found.
    """
    if record is None:
        raise error(Reason.NAMESPACE_NOT_FOUND)
    return record


def namespace_message(record: NamespaceRecord, ban: Ban | None) -> namespaces_pb2.Namespace:
    """Return a namespace as a message; ``ban`` is its ban when it has one."""
    message = namespaces_pb2.Namespace(
        id=record.id,
        name=record.name,
        state=int(record.state),  # type: ignore[arg-type]  # an open enum takes its number
        incarnation=record.incarnation,
        labels=record.labels,
        created_at=timestamp(record.created_at_ms),
        updated_at=timestamp(record.updated_at_ms),
        state_reason=record.state_reason,
    )
    if ban is not None and not record.state.is_live:
        message.banned_at.CopyFrom(timestamp(ban.banned_at_ms) or Timestamp())
        if not ban.reclaimed_at_ms:
            message.reclaim_after.CopyFrom(timestamp(ban.reclaim_after_ms) or Timestamp())
    return message


def reclaim_message(report: ReclaimReport) -> namespaces_pb2.Reclaim:
    """Return a reclaim report as a message."""
    return namespaces_pb2.Reclaim(
        namespace_id=report.namespace_id,
        name=report.name,
        incarnation=report.incarnation,
        phase=int(report.phase),  # type: ignore[arg-type]  # an open enum takes its number
        banned_at=timestamp(report.banned_at_ms),
        banned_by=report.banned_by,
        reason=report.reason,
        reclaim_after=timestamp(report.reclaim_after_ms),
        started_at=timestamp(report.started_at_ms),
        finished_at=timestamp(report.finished_at_ms),
        bytes_total=report.bytes_total,
        bytes_done=report.bytes_done,
        bytes_freed=report.bytes_freed,
        rows_dropped=report.rows_dropped,
        proof_rows_found=report.proof_rows_found,
        proof_bytes_found=report.proof_bytes_found,
    )


def signing_key_message(key: VerifyingKey) -> auth_pb2.SigningKey:
    """Return the public half of a key."""
    return auth_pb2.SigningKey(
        kid=key.kid,
        algorithm=key.algorithm,
        public_key=key.public,
        created_at=timestamp(key.created_at_ms),
        verifies_until=timestamp(key.verify_until_ms) if key.verify_until_ms else None,
    )


def service_token_message(record: ServiceTokenRecord) -> auth_pb2.ServiceToken:
    """Return what is kept of a token as a message."""
    return auth_pb2.ServiceToken(
        jti=record.jti,
        subject=record.subject,
        groups=record.groups,
        guardian=int(record.guardian),  # type: ignore[arg-type]  # an open enum takes its number
        issued_at=timestamp(record.issued_at_s * 1000),
        expires_at=timestamp(record.expires_at_s * 1000),
        issued_by=record.issued_by,
        revoked=record.revoked,
    )


def rule_message(rule: Rule) -> auth_pb2.Rule:
    """Return a rule as a message."""
    return auth_pb2.Rule(database=rule.database, prefix=rule.prefix, read=rule.read, write=rule.write)
