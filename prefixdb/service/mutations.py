"""From request messages to store operations: every check of a write, and of a range, in one place.

Each function checks fields, limits, the policy's rules for every key, and the namespace's state, before anything is
handed to the store. Whatever is wrong with one mutation refuses the whole request.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefixdb.catalog.policy import (
    Access,
    Session,
    check_read,
    check_read_range,
    check_write,
    check_write_range,
)
from prefixdb.clock import Clock
from prefixdb.errors import Reason, bad_field, error
from prefixdb.keycodec import DATA_HEAD_BYTES, RowKey, Span, check_user_key, data_key, prefix_span, range_span
from prefixdb.limits import TTL_MS_MAX, WRITE_CONDITIONS_MAX, WRITE_MUTATIONS_MAX, WRITE_RANGE_DELETES_MAX
from prefixdb.store.base import Absent, Condition, Delete, DeleteSpan, Exists, Mutation, Put, ValueIs, VersionIs
from prefixdb.v1 import key_value_pb2 as pb


class WritePlanner:
    """Turns the write messages of one caller into store operations.

    Args:
        clock: for lifetimes.
        value_bytes_max: largest value accepted.
    """

    def __init__(self, clock: Clock, value_bytes_max: int) -> None:
        self._clock = clock
        self.value_bytes_max = value_bytes_max

    def put(self, session: Session, message: pb.PutRequest | pb.Mutation.Put) -> Put:
        """Return the store's operation of a put.

        Raises:
            InvalidArgumentError: KEY_EMPTY, KEY_TOO_LARGE, VALUE_TOO_LARGE, BAD_FIELD (database, ttl_ms).
            PermissionDeniedError: NOT_PERMITTED.
        """
        key = message.key
        row_key = data_key(session.namespace_id, message.database, key)
        check_write(session, message.database, key)
        value = message.value
        if len(value) > self.value_bytes_max:
            raise error(
                Reason.VALUE_TOO_LARGE,
                f"The value has {len(value)} bytes; the limit is {self.value_bytes_max}.",
                metadata={"size": str(len(value)), "limit": str(self.value_bytes_max)},
            )
        ttl_ms = message.ttl_ms
        if not ttl_ms:
            return Put(row_key, value)
        if ttl_ms > TTL_MS_MAX:
            raise bad_field("ttl_ms", f"must be at most {TTL_MS_MAX}.")
        return Put(row_key, value, self._clock.now_ms() + ttl_ms)

    def delete(self, session: Session, message: pb.DeleteRequest | pb.Mutation.Delete) -> Delete:
        """Return the store's operation of a delete; raises as ``put``."""
        key = message.key
        row_key = data_key(session.namespace_id, message.database, key)
        check_write(session, message.database, key)
        return Delete(row_key)

    def mutations(self, session: Session, messages: Sequence[pb.Mutation]) -> tuple[tuple[Mutation, ...], Access]:
        """Return the operations of a Write, and what they do to the namespace: DELETE when they only delete.

        Raises:
            InvalidArgumentError: also BATCH_TOO_LARGE, BAD_RANGE, BAD_FIELD (mutations).
            PermissionDeniedError: NOT_PERMITTED, for the whole request.
        """
        _check_count("mutations", len(messages), WRITE_MUTATIONS_MAX)
        operations: list[Mutation] = []
        range_deletes = 0
        access = Access.DELETE
        for message in messages:
            which = message.WhichOneof("mutation")
            if which == "put":
                access = Access.WRITE
                operations.append(self.put(session, message.put))
            elif which == "delete":
                operations.append(self.delete(session, message.delete))
            elif which == "delete_range":
                range_deletes += 1
                deletion = message.delete_range
                span = range_of(session.namespace_id, deletion.database, deletion.range)
                check_write_range(session, deletion.database, *user_bounds(span))
                operations.append(DeleteSpan(span))
            else:
                raise bad_field("mutations", "must each be a put, a delete or a delete_range.")
        _check_count("range deletes", range_deletes, WRITE_RANGE_DELETES_MAX)
        return tuple(operations), access

    def conditions(self, session: Session, messages: Sequence[pb.Condition]) -> tuple[Condition, ...]:
        """Return the conditions of a Write; each is a read of its row and needs the right to read it.

        Raises:
            InvalidArgumentError: BATCH_TOO_LARGE, KEY_EMPTY, KEY_TOO_LARGE, BAD_FIELD.
            PermissionDeniedError: NOT_PERMITTED.
        """
        _check_count("conditions", len(messages), WRITE_CONDITIONS_MAX)
        found = []
        for message in messages:
            row_key = data_key(session.namespace_id, message.database, message.key)
            check_read(session, message.database, message.key)
            found.append(test_of(row_key, message.test, "conditions"))
        return tuple(found)

    def own_condition(
        self, session: Session, row_key: RowKey, message: pb.PutRequest | pb.DeleteRequest
    ) -> tuple[Condition, ...]:
        """Return the optional condition of a Put or Delete; raises as ``conditions``."""
        if not message.HasField("condition"):
            return ()
        check_read(session, message.database, message.key)
        return (test_of(row_key, message.condition, "condition"),)


def check_change(session: Session, mutations: Sequence[Mutation], conditions: Sequence[Condition]) -> None:
    """Return when the session may make a change that is made of store operations already.

    Raises:
        PermissionDeniedError: NOT_PERMITTED.
    """
    for mutation in mutations:
        if isinstance(mutation, DeleteSpan):
            check_write_range(session, _database(mutation.span.begin), *user_bounds(mutation.span))
        else:
            check_write(session, _database(mutation.key), mutation.key[DATA_HEAD_BYTES:])
    for condition in conditions:
        check_read(session, _database(condition.key), condition.key[DATA_HEAD_BYTES:])


def test_of(row_key: RowKey, test: pb.Test, field: str) -> Condition:
    """Return the store's condition of a test.

    Raises:
        InvalidArgumentError: BAD_FIELD when it says nothing, or says "not absent" or "not exists": those would be two
            ways to say one thing, and the second has been a mistake each time it was met.
    """
    which = test.WhichOneof("test")
    if which == "version":
        return VersionIs(row_key, test.version)
    if which == "value":
        return ValueIs(row_key, test.value)
    if which == "absent" and test.absent:
        return Absent(row_key)
    if which == "exists" and test.exists:
        return Exists(row_key)
    raise bad_field(field, "must test version, absent, exists or value; absent and exists must be true.")


def range_of(namespace_id: int, database: int, message: pb.KeyRange) -> Span:
    """Return the span of a key range of the caller's namespace.

    Raises:
        InvalidArgumentError: BAD_RANGE (inverted, or a prefix together with bounds), KEY_TOO_LARGE, BAD_FIELD.
    """
    if message.prefix:
        if message.start or message.end:
            raise error(Reason.BAD_RANGE, "A range has either a prefix or bounds, not both.")
        return prefix_span(namespace_id, database, message.prefix)
    return range_span(namespace_id, database, message.start, message.end)


def user_bounds(span: Span) -> tuple[bytes, bytes]:
    """Return the user-key bounds of a span inside one database; an empty end is the end of the database.

    A span that reaches the end of its database ends at the bare head of the next one, or of the next family, which is
    not longer than a head: nothing is left of it.
    """
    return span.begin[DATA_HEAD_BYTES:], span.end[DATA_HEAD_BYTES:]


def readable_range(session: Session, database: int, message: pb.KeyRange) -> Span:
    """Return the span of a range that the session may read as a whole.

    Raises:
        InvalidArgumentError: as ``range_of``.
        PermissionDeniedError: NOT_PERMITTED.
    """
    span = range_of(session.namespace_id, database, message)
    check_read_range(session, database, *user_bounds(span))
    return span


def resumed(span: Span, after: bytes, reverse: bool) -> Span:
    """Return what is left of a walk over ``span`` after the user key ``after``; all of it when ``after`` is empty.

    Raises:
        InvalidArgumentError: KEY_TOO_LARGE.
    """
    if not after:
        return span
    check_user_key(after)
    here = RowKey(span.begin[:DATA_HEAD_BYTES] + after)
    if reverse:
        return Span(span.begin, min(span.end, max(span.begin, here)))
    return Span(max(span.begin, min(span.end, RowKey(here + b"\0"))), span.end)


def _database(row_key: RowKey) -> int:
    """Return the database of a data row's key, or of the begin of a span of them."""
    return int.from_bytes(row_key[DATA_HEAD_BYTES - 2 : DATA_HEAD_BYTES], "big")


def _check_count(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise error(
            Reason.BATCH_TOO_LARGE,
            f"The request has {count} {what}; the limit is {limit}.",
            metadata={"size": str(count), "limit": str(limit)},
        )
