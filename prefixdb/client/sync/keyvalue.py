# Generated from prefixdb/client/aio/keyvalue.py by tools/async_to_sync.py; do not edit.
"""Reading and writing single rows, and many at once."""

from __future__ import annotations

from collections.abc import Iterable

from prefixdb.client import methods
from prefixdb.client.encoding import (
    Key,
    KeyT,
    Lifetime,
    encode_key,
    encode_value,
    key_range,
    repeat_is_safe,
    row_test,
    ttl_to_ms,
)
from prefixdb.client.models import Row, ttl_from_ms
from prefixdb.client.pending import condition_unmet, repeat_in_doubt
from prefixdb.client.sync import wire
from prefixdb.client.sync.connection import Connection
from prefixdb.errors import InvalidArgumentError, KeyNotFoundError, Reason, error
from prefixdb.limits import BATCH_KEYS_MAX
from prefixdb.v1 import key_value_pb2


class KeyValue(wire.Membership):
    """One numbered database of the namespace that the token names."""

    def __init__(self, connection: Connection, database: int, deadline_s: float) -> None:
        self._connection = connection
        self._database = database
        self._deadline_s = deadline_s

    def get(self, key: Key) -> bytes | None:
        """Return the value of ``key``, None when there is no such row."""
        row = self._get(encode_key(key))
        return row.value if row.found else None

    def get_row(self, key: Key) -> Row | None:
        """Return the row with its version and remaining lifetime, None when there is none."""
        name = encode_key(key)
        row = self._get(name)
        return Row(name, row.value, row.version, ttl_from_ms(row.ttl_ms)) if row.found else None

    def __getitem__(self, key: Key) -> bytes:
        """Return the value of ``key``.

        Raises:
            KeyNotFoundError: (a ``KeyError``) there is no such row.
        """
        row = self._get(encode_key(key))
        if not row.found:
            raise KeyNotFoundError(Reason.KEY_NOT_FOUND)
        return row.value

    def exists(self, key: Key) -> bool:
        """True when there is such a row."""
        return (self._get(encode_key(key))).found

    def get_many(self, keys: Iterable[KeyT]) -> dict[KeyT, bytes]:
        """Return the values of those keys that exist, under the keys as they were passed.

        Up to 10,000 keys are read from one consistent snapshot; beyond that, or when the answer would be larger than a
        message, several snapshots are taken one after the other.
        """
        wanted = list(dict.fromkeys(keys))
        found: dict[KeyT, bytes] = {}
        chunks = [wanted[i : i + BATCH_KEYS_MAX] for i in range(0, len(wanted), BATCH_KEYS_MAX)]
        chunks.reverse()
        while chunks:
            chunk = chunks.pop()
            request = key_value_pb2.BatchGetRequest(keys=[encode_key(key) for key in chunk], database=self._database)
            try:
                answer = self._connection.call(methods.BATCH_GET, request, deadline_s=self._deadline_s)
            except InvalidArgumentError as failure:
                if failure.reason is not Reason.BATCH_TOO_LARGE or len(chunk) < 2:
                    raise
                middle = len(chunk) // 2
                chunks += [chunk[middle:], chunk[:middle]]
                continue
            found |= {key: row.value for key, row in zip(chunk, answer.results, strict=True) if row.found}
        return found

    def put(
        self,
        key: Key,
        value: bytes,
        *,
        ttl: Lifetime | None = None,
        if_version: int | None = None,
        if_absent: bool = False,
        if_exists: bool = False,
        if_value: bytes | None = None,
    ) -> int:
        """Write a row, replacing what was there and its lifetime, and return the version of the write.

        Args:
            key: text (its UTF-8 bytes) or bytes, 1 to 4096 bytes.
            value: bytes, up to what the server permits (1 MiB unless configured).
            ttl: lifetime in seconds or as a timedelta; None for ever.
            if_version: write only if the row still has this version.
            if_absent: write only if there is no such row.
            if_exists: write only if there is such a row.
            if_value: write only if the row has this value.

        Raises:
            ConflictError: the condition does not hold; ``metadata["current_version"]`` is the row's version now, "0"
                when there is none. Nothing was written.
            OutcomeUnknownError, DeadlineExceededError: the write may or may not have been applied.
        """
        test = row_test(version=if_version, absent=if_absent, exists=if_exists, value=if_value)
        request = key_value_pb2.PutRequest(
            key=encode_key(key),
            value=encode_value(value),
            database=self._database,
            ttl_ms=ttl_to_ms(ttl),
            condition=test,
        )
        if repeat_is_safe(test):
            answer, doubtful = self._connection.call_repeatable(methods.PUT, request, deadline_s=self._deadline_s)
        else:
            answer, doubtful = (
                self._connection.call_single(methods.PUT, request, deadline_s=self._deadline_s),
                False,
            )
        if not answer.applied:
            raise repeat_in_doubt() if doubtful else condition_unmet(answer.current_version)
        return answer.version

    def delete(
        self,
        key: Key,
        *,
        if_version: int | None = None,
        if_exists: bool = False,
        if_value: bytes | None = None,
    ) -> int:
        """Remove a row and return the version of the delete; removing what is not there succeeds.

        Raises:
            ConflictError: the condition does not hold, as for ``put``.
        """
        test = row_test(version=if_version, exists=if_exists, value=if_value)
        request = key_value_pb2.DeleteRequest(key=encode_key(key), database=self._database, condition=test)
        if repeat_is_safe(test):
            answer, doubtful = self._connection.call_repeatable(methods.DELETE, request, deadline_s=self._deadline_s)
        else:
            answer, doubtful = (
                self._connection.call_single(methods.DELETE, request, deadline_s=self._deadline_s),
                False,
            )
        if not answer.applied:
            raise repeat_in_doubt() if doubtful else condition_unmet(answer.current_version)
        return answer.version

    def delete_range(self, prefix: Key | None = None, *, start: Key | None = None, end: Key | None = None) -> int:
        """Remove every row of a range in one commit and return its version.

        Args:
            prefix: the keys that begin so; ``""`` means the whole database and has to be said.
            start: first key of a half-open range.
            end: first key behind it; None goes to the end of the database.
        """
        if prefix is None and start is None and end is None:
            message = "delete_range without a range would empty the database; if you mean that, pass prefix=''."
            raise error(Reason.BAD_RANGE, message)
        removal = key_value_pb2.Mutation.DeleteRange(range=key_range(prefix, start, end), database=self._database)
        request = key_value_pb2.WriteRequest(mutations=[key_value_pb2.Mutation(delete_range=removal)])
        answer = self._connection.call(methods.WRITE, request, deadline_s=self._deadline_s)
        return answer.version

    def count(self, prefix: Key | None = None, *, start: Key | None = None, end: Key | None = None) -> int:
        """Return the exact number of rows of a range, or of the whole database; the server walks them."""
        request = key_value_pb2.CountRequest(range=key_range(prefix, start, end), database=self._database)
        return (self._connection.call(methods.COUNT, request, deadline_s=self._deadline_s)).count

    def _get(self, key: bytes) -> key_value_pb2.GetResponse:
        request = key_value_pb2.GetRequest(key=key, database=self._database)
        return self._connection.call_single(methods.GET, request, deadline_s=self._deadline_s)
