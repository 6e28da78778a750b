"""Atomic batches: gathered here, sent as one Write when the block ends without an exception."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from prefixdb.client import methods
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.encoding import (
    Key,
    Lifetime,
    check_database,
    encode_key,
    encode_value,
    key_range,
    row_test,
    ttl_to_ms,
)
from prefixdb.client.pending import condition_unmet, repeat_in_doubt
from prefixdb.errors import Reason, error
from prefixdb.v1 import key_value_pb2


class AsyncBatch:
    """All or nothing: up to 10,000 changes in order, under up to 1,000 conditions.

    Used as ``async with db.batch() as b:``. Leaving the block sends it; an exception inside the block sends nothing.
    Every method returns the batch, so that calls can be chained.
    """

    def __init__(self, connection: AsyncConnection, database: int, deadline_s: float) -> None:
        self._connection = connection
        self._database = database
        self._deadline_s = deadline_s
        self._request = key_value_pb2.WriteRequest()
        self._written: set[tuple[int, bytes]] = set()
        self._sent = False
        self.version: int | None = None
        """The version of the commit, known after the block; None when there was nothing to send."""

    def __repr__(self) -> str:
        changes, conditions = len(self._request.mutations), len(self._request.conditions)
        return f"AsyncBatch({changes} changes, {conditions} conditions, version={self.version})"

    def __len__(self) -> int:
        return len(self._request.mutations)

    def put(self, key: Key, value: bytes, *, ttl: Lifetime | None = None, database: int | None = None) -> Self:
        """Add the writing of a row; arguments as ``db.put``, ``database`` for another numbered database."""
        number, name = self._place(key, database)
        change = key_value_pb2.Mutation.Put(key=name, value=encode_value(value), database=number, ttl_ms=ttl_to_ms(ttl))
        self._request.mutations.append(key_value_pb2.Mutation(put=change))
        self._written.add((number, name))
        return self

    def delete(self, key: Key, *, database: int | None = None) -> Self:
        """Add the removal of a row."""
        number, name = self._place(key, database)
        change = key_value_pb2.Mutation.Delete(key=name, database=number)
        self._request.mutations.append(key_value_pb2.Mutation(delete=change))
        self._written.add((number, name))
        return self

    def delete_range(
        self,
        prefix: Key | None = None,
        *,
        start: Key | None = None,
        end: Key | None = None,
        database: int | None = None,
    ) -> Self:
        """Add the removal of a range as it is at the moment of the commit (up to 100 ranges in a batch)."""
        if prefix is None and start is None and end is None:
            raise error(Reason.BAD_RANGE, "delete_range needs a range; the whole database is prefix=''.")
        number = self._database if database is None else check_database(database)
        change = key_value_pb2.Mutation.DeleteRange(range=key_range(prefix, start, end), database=number)
        self._request.mutations.append(key_value_pb2.Mutation(delete_range=change))
        return self

    def require(
        self,
        key: Key,
        *,
        version: int | None = None,
        absent: bool = False,
        exists: bool = False,
        value: bytes | None = None,
        database: int | None = None,
    ) -> Self:
        """Add a condition on the state before the batch: exactly one of the four tests."""
        test = row_test(version=version, absent=absent, exists=exists, value=value)
        if test is None:
            raise error(Reason.BAD_FIELD, "A condition needs one of version, absent, exists or value.")
        number, name = self._place(key, database)
        self._request.conditions.append(key_value_pb2.Condition(key=name, database=number, test=test))
        return self

    async def commit(self) -> int | None:
        """Send the batch now and return its version; the end of the block does it for you.

        Raises:
            ConflictError: a condition does not hold; ``metadata`` has its index as "failed_condition" and the row's
                "current_version". Nothing was written.
        """
        if self._sent:
            raise error(Reason.BAD_FIELD, "This batch was sent already; make a new one.")
        self._sent = True
        if not self._request.mutations and not self._request.conditions:
            return None
        if write_is_repeatable(self._request, self._written):
            answer, doubtful = await self._connection.call_repeatable(
                methods.WRITE, self._request, deadline_s=self._deadline_s
            )
        else:
            answer = await self._connection.call(methods.WRITE, self._request, deadline_s=self._deadline_s)
            doubtful = False
        if not answer.applied:
            if doubtful:
                raise repeat_in_doubt()
            failure = condition_unmet(answer.current_version)
            failure.metadata["failed_condition"] = str(answer.failed_condition)
            raise failure
        self.version = answer.version
        return answer.version

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._sent:
            await self.commit()

    def _place(self, key: Key, database: int | None) -> tuple[int, bytes]:
        return self._database if database is None else check_database(database), encode_key(key)


def write_is_repeatable(request: key_value_pb2.WriteRequest, written: set[tuple[int, bytes]]) -> bool:
    """True when the write, once applied, breaks one of its own conditions: then a repeat changes nothing.

    A test for a version on a row that the write puts or deletes does: versions never come back. A test for absence
    would need to know that the row is there afterwards, and ``written`` also has deleted rows; so it only counts when
    the write deletes nothing.
    """
    only_puts = all(change.HasField("put") for change in request.mutations)
    telling = {"version", "absent"} if only_puts else {"version"}
    return any(
        condition.test.WhichOneof("test") in telling and (condition.database, condition.key) in written
        for condition in request.conditions
    )
