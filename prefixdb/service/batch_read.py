"""Reading many rows for one answer, without reading more than one answer can carry.

The store reads a batch as a whole, from one snapshot, so that ten thousand keys of a mebibyte each would fill the
memory before anybody could count. Small batches are read at once. A large one is first measured in small steps, and
read as a whole only when it fits; what changes in between is bounded by what can be written in those milliseconds.
Equal keys are read once.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import RowKey
from prefixdb.limits import MIB, RESPONSE_BYTES_MAX
from prefixdb.service.calls import Call
from prefixdb.service.streams import OpenStreams
from prefixdb.service.workers import Workers
from prefixdb.store.base import Row, Store

STEP_BYTES_MAX = 128 * MIB
"""What one step may bring into memory at worst: all its values at the largest size allowed."""

STEP_KEYS_MAX = 128
"""Keys of one step, and of a batch that is read at once on the serving thread: about a millisecond from memory."""


class BatchReader:
    """Reads batches. Belongs to the event loop's thread.

    Args:
        store: the rows.
        streams: a read in a thread registers there, like any cursor.
        value_bytes_max: largest value there can be.
        workers: threads for large batches.
    """

    def __init__(self, store: Store, streams: OpenStreams, value_bytes_max: int, workers: Workers) -> None:
        self._store = store
        self._streams = streams
        self._workers = workers
        self._step_keys = max(1, min(STEP_KEYS_MAX, STEP_BYTES_MAX // value_bytes_max))

    async def read(self, call: Call, keys: Sequence[RowKey]) -> list[Row | None]:
        """Return the rows of ``keys`` in their order, all of one instant.

        Raises:
            InvalidArgumentError: BATCH_TOO_LARGE, they are more than an answer can carry.
            UnauthenticatedError, PermissionDeniedError: the caller may not read any more; looked at after the read.
        """
        unique = list(dict.fromkeys(keys))
        if len(unique) <= self._step_keys:
            rows = self._store.get_many(unique)
        elif call.stream is not None:
            rows = await self._workers.run(call.session.namespace_id, lambda: self._measured(unique))
            call.refresh()
        else:
            # The namespace is not reclaimed while the thread reads, and no row is sent that was dropped meanwhile.
            call.stream = self._streams.open(call.session.namespace_id, call.refresh)
            try:
                call.refresh()
                rows = await self._workers.run(call.session.namespace_id, lambda: self._measured(unique))
                call.refresh()
            finally:
                call.stream.ended()
        if len(unique) == len(keys):
            return rows
        found = dict(zip(unique, rows, strict=True))
        return [found[key] for key in keys]

    def _measured(self, keys: list[RowKey]) -> list[Row | None]:
        """Measure a large batch step by step, then read it as a whole. Blocks."""
        size = 0
        for start in range(0, len(keys), self._step_keys):
            for row in self._store.get_many(keys[start : start + self._step_keys]):
                size += len(row.payload) if row is not None else 0
            if size > RESPONSE_BYTES_MAX:
                raise answer_too_large(RESPONSE_BYTES_MAX)
        return self._store.get_many(keys)


def answer_too_large(limit: int) -> PrefixdbError:
    """Return BATCH_TOO_LARGE for an answer that one message cannot carry."""
    message = f"The answer would have more than {limit} bytes; ask for fewer keys at once."
    return error(Reason.BATCH_TOO_LARGE, message, metadata={"limit": str(limit)})
