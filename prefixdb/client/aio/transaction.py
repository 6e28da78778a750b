"""Optimistic transactions: read freely, gather writes, commit only if nothing that was read has changed.

    attempt := fn(txn) reads rows (their versions are kept) and gathers writes
    commit  := one Write under one condition for each row read: still this version, or still absent
    refused := wait a little, longer each time and never the same, and call fn again with a new transaction

So a transaction is serializable as to the rows it read by key. It has no scans: rows that are new in a range could not
be noticed.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from prefixdb.client import methods
from prefixdb.client.aio import wire
from prefixdb.client.aio.batch import write_is_repeatable
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.encoding import (
    Key,
    Lifetime,
    check_database,
    encode_key,
    encode_value,
    ttl_to_ms,
)
from prefixdb.client.pending import repeat_in_doubt
from prefixdb.errors import ConflictError, Reason
from prefixdb.v1 import key_value_pb2

T = TypeVar("T")
Place = tuple[int, bytes]

RETRY_FIRST_S = 0.002
RETRY_MAX_S = 0.25


class AsyncTransaction:
    """What ``db.run`` passes to its function. Reads see the transaction's own writes, and repeat themselves."""

    def __init__(self, connection: AsyncConnection, database: int, deadline_s: float) -> None:
        self._connection = connection
        self._database = database
        self._deadline_s = deadline_s
        self._seen: dict[Place, key_value_pb2.GetResponse] = {}
        self._changes: dict[Place, key_value_pb2.Mutation] = {}

    def __repr__(self) -> str:
        return f"AsyncTransaction({len(self._seen)} rows read, {len(self._changes)} rows changed)"

    async def get(self, key: Key, *, database: int | None = None) -> bytes | None:
        """Return the value of ``key``, None when there is no such row; the commit depends on it."""
        place = self._place(key, database)
        change = self._changes.get(place)
        if change is not None:
            return change.put.value if change.HasField("put") else None
        row = self._seen.get(place)
        if row is None:
            request = key_value_pb2.GetRequest(key=place[1], database=place[0])
            row = await self._connection.call(methods.GET, request, deadline_s=self._deadline_s)
            self._seen[place] = row
        return row.value if row.found else None

    async def get_many(self, keys: Iterable[Key], *, database: int | None = None) -> dict[Key, bytes]:
        """Return the values of those keys that exist; the commit depends on all of them."""
        found: dict[Key, bytes] = {}
        for key in keys:
            value = await self.get(key, database=database)
            if value is not None:
                found[key] = value
        return found

    def put(self, key: Key, value: bytes, *, ttl: Lifetime | None = None, database: int | None = None) -> None:
        """Write a row at the commit; arguments as ``db.put``."""
        number, name = self._place(key, database)
        change = key_value_pb2.Mutation.Put(key=name, value=encode_value(value), database=number, ttl_ms=ttl_to_ms(ttl))
        self._changes[number, name] = key_value_pb2.Mutation(put=change)

    def delete(self, key: Key, *, database: int | None = None) -> None:
        """Remove a row at the commit."""
        number, name = self._place(key, database)
        change = key_value_pb2.Mutation.Delete(key=name, database=number)
        self._changes[number, name] = key_value_pb2.Mutation(delete=change)

    async def commit(self) -> bool:
        """Apply the transaction; False when a row that was read has changed. ``db.run`` calls it."""
        # One row read and nothing changed: that read was the truth at its own moment, there is nothing to check.
        if not self._changes and len(self._seen) < 2:
            return True
        conditions = [
            key_value_pb2.Condition(key=name, database=number, test=_unchanged(row))
            for (number, name), row in self._seen.items()
        ]
        request = key_value_pb2.WriteRequest(mutations=self._changes.values(), conditions=conditions)
        if not write_is_repeatable(request, set(self._changes)):
            return (await self._connection.call(methods.WRITE, request, deadline_s=self._deadline_s)).applied
        answer, doubtful = await self._connection.call_repeatable(methods.WRITE, request, deadline_s=self._deadline_s)
        if doubtful and not answer.applied:
            # Trying again with new reads could apply the same change twice.
            raise repeat_in_doubt()
        return answer.applied

    def _place(self, key: Key, database: int | None) -> Place:
        return self._database if database is None else check_database(database), encode_key(key)


async def run_transaction(
    start: Callable[[], AsyncTransaction], fn: Callable[[AsyncTransaction], Awaitable[T]], attempts: int
) -> T:
    """Call ``fn`` with new transactions until one commits, and return what it returned.

    Raises:
        ConflictError: none of ``attempts`` did; nothing was applied.
    """
    for attempt in range(attempts):
        transaction = start()
        result = await fn(transaction)
        if await transaction.commit():
            return result
        # Full jitter: writers that met once must not meet again at the same moment.
        await wire.sleep(random.uniform(0, min(RETRY_MAX_S, RETRY_FIRST_S * 2**attempt)))
    message = f"Concurrent writers changed what the transaction had read in all of its {attempts} attempts."
    raise ConflictError(Reason.CONFLICT, f"{message} Nothing was applied.", metadata={"attempts": str(attempts)})


def _unchanged(row: key_value_pb2.GetResponse) -> key_value_pb2.Test:
    return key_value_pb2.Test(version=row.version) if row.found else key_value_pb2.Test(absent=True)
