"""The KeyValue service: rows of the caller's own namespace.

The life of a Get: the gate has admitted the token and parsed the request; the row key is built from the session's
namespace id and nothing the caller sent; policy says whether some rule permits it; the store answers from memory or one
disk read, on the serving thread. A Put goes the same way to ``Writer``, which commits it together with whoever else is
waiting.

Conditions are reads: they need the right to read. Without a condition no answer of a write tells what was there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from prefixdb.catalog.policy import Access, check_read, check_read_range
from prefixdb.clock import Clock
from prefixdb.errors import Reason, error
from prefixdb.keycodec import data_key
from prefixdb.limits import BATCH_KEYS_MAX, RESPONSE_BYTES_MAX
from prefixdb.service.batch_read import BatchReader, answer_too_large
from prefixdb.service.calls import Call, Wire
from prefixdb.service.mutations import WritePlanner, readable_range, user_bounds
from prefixdb.service.pipeline import run_pipeline
from prefixdb.service.scan import run_scan
from prefixdb.service.streams import OpenStreams
from prefixdb.service.workers import Workers
from prefixdb.service.writer import Change, Writer
from prefixdb.store.base import CommitResult, Row, Store
from prefixdb.v1 import key_value_pb2 as pb

COUNT_STEP_ROWS = 2_000
"""Rows of one step of a Count: about two milliseconds during which the serving thread does nothing else."""

_FOUND_BYTES = 32
"""What one answer of a BatchGet takes beside its value, at most."""


class KeyValue:
    """Implementation of ``prefixdb.v1.KeyValue``. Belongs to the event loop's thread.

    Args:
        store: the rows.
        writer: commits.
        planner: checks and converts writes.
        streams: Count and large BatchGets register there, for they read across waits.
        clock: for remaining lifetimes.
        workers: threads for large BatchGets.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        planner: WritePlanner,
        streams: OpenStreams,
        clock: Clock,
        *,
        workers: Workers,
    ) -> None:
        self.store = store
        self.writer = writer
        self.planner = planner
        self.clock = clock
        self._streams = streams
        self._batches = BatchReader(store, streams, planner.value_bytes_max, workers)

    def Get(self, call: Call, request: pb.GetRequest) -> pb.GetResponse:
        """Return one row of the caller's namespace."""
        session = call.session
        key = request.key
        row_key = data_key(session.namespace_id, request.database, key)
        check_read(session, request.database, key)
        row = self.store.get(row_key)
        if row is None:
            return pb.GetResponse()
        if row.expires_at_ms:
            return pb.GetResponse(found=True, value=row.payload, version=row.version, ttl_ms=self.ttl_ms(row))
        return pb.GetResponse(found=True, value=row.payload, version=row.version)

    async def BatchGet(self, call: Call, request: pb.BatchGetRequest) -> pb.BatchGetResponse:
        """Return many rows of one instant, in request order."""
        return self.found(await self.read_batch(call, request))

    async def Put(self, call: Call, request: pb.PutRequest) -> pb.PutResponse:
        """Write one row."""
        result = await self.writer.commit(call, self.put_change(call, request))
        return pb.PutResponse(applied=result.applied, version=result.version, current_version=result.current_version)

    async def Delete(self, call: Call, request: pb.DeleteRequest) -> pb.DeleteResponse:
        """Remove one row."""
        result = await self.writer.commit(call, self.delete_change(call, request))
        return pb.DeleteResponse(applied=result.applied, version=result.version, current_version=result.current_version)

    async def Write(self, call: Call, request: pb.WriteRequest) -> pb.WriteResponse:
        """Apply many changes atomically under conditions."""
        return write_response(await self.writer.commit(call, self.write_change(call, request)))

    async def Scan(self, call: Call, request: pb.ScanRequest, wire: Wire) -> None:
        """Stream the rows of a range."""
        await run_scan(self.store, self.clock, call, request, wire)

    async def Count(self, call: Call, request: pb.CountRequest) -> pb.CountResponse:
        """Count the rows of a range, in steps between which others are served."""
        span = readable_range(call.session, request.database, request.range)
        call.needs = lambda session: check_read_range(session, request.database, *user_bounds(span))
        stream = call.stream = self._streams.open(call.session.namespace_id, call.refresh)
        try:
            call.refresh()
            cursor = self.store.open_cursor(span, keys_only=True, one_instant=True)
            try:
                total = 0
                while True:
                    counted = cursor.count(COUNT_STEP_ROWS)
                    total += counted
                    if counted < COUNT_STEP_ROWS:
                        return pb.CountResponse(count=total)
                    await asyncio.sleep(0)
                    call.refresh()
            finally:
                cursor.close()
        finally:
            stream.ended()

    async def Pipeline(self, call: Call, wire: Wire) -> None:
        """Answer a stream of messages of many independent operations."""
        await run_pipeline(self, call, wire)

    # --- shared with the pipeline ----------------------------------------------------------------------------------

    async def read_batch(self, call: Call, request: pb.BatchGetRequest) -> list[Row | None]:
        """Return the rows of a BatchGet, every key checked.

        Raises:
            InvalidArgumentError: BATCH_TOO_LARGE, KEY_EMPTY, KEY_TOO_LARGE, BAD_FIELD.
            PermissionDeniedError: NOT_PERMITTED, for the whole request.
        """
        session, database, keys = call.session, request.database, request.keys
        if len(keys) > BATCH_KEYS_MAX:
            raise error(
                Reason.BATCH_TOO_LARGE,
                f"The request has {len(keys)} keys; the limit is {BATCH_KEYS_MAX}.",
                metadata={"size": str(len(keys)), "limit": str(BATCH_KEYS_MAX)},
            )
        row_keys = [data_key(session.namespace_id, database, key) for key in keys]
        for key in keys:
            check_read(session, database, key)
        rows = await self._batches.read(call, row_keys)
        if call.session is not session:  # A group or a grant was changed while a thread read.
            for key in keys:
                check_read(call.session, database, key)
        return rows

    def found(self, rows: Sequence[Row | None], bytes_max: int = RESPONSE_BYTES_MAX) -> pb.BatchGetResponse:
        """Return the answer of a BatchGet.

        Raises:
            InvalidArgumentError: BATCH_TOO_LARGE when it would have more than ``bytes_max`` bytes.
        """
        size = sum(len(row.payload) + _FOUND_BYTES for row in rows if row is not None)
        if size > bytes_max:
            raise answer_too_large(bytes_max)
        missing = pb.GetResponse()
        return pb.BatchGetResponse(results=[missing if row is None else self._get_response(row) for row in rows])

    def put_change(self, call: Call, request: pb.PutRequest) -> Change:
        """Return the change a Put asks for; raises as ``WritePlanner.put``."""
        operation = self.planner.put(call.session, request)
        conditions = self.planner.own_condition(call.session, operation.key, request)
        return Change(call.session, (operation,), conditions, Access.WRITE)

    def delete_change(self, call: Call, request: pb.DeleteRequest) -> Change:
        """Return the change a Delete asks for; raises as ``WritePlanner.delete``."""
        operation = self.planner.delete(call.session, request)
        conditions = self.planner.own_condition(call.session, operation.key, request)
        return Change(call.session, (operation,), conditions, Access.DELETE)

    def write_change(self, call: Call, request: pb.WriteRequest) -> Change:
        """Return the change a Write asks for; raises as ``WritePlanner.mutations`` and ``conditions``."""
        mutations, access = self.planner.mutations(call.session, request.mutations)
        conditions = self.planner.conditions(call.session, request.conditions)
        return Change(call.session, mutations, conditions, access)

    def ttl_ms(self, row: Row) -> int:
        """Return the remaining lifetime of a live row that has one, at least 1."""
        return max(1, row.expires_at_ms - self.clock.now_ms())

    def _get_response(self, row: Row) -> pb.GetResponse:
        if row.expires_at_ms:
            return pb.GetResponse(found=True, value=row.payload, version=row.version, ttl_ms=self.ttl_ms(row))
        return pb.GetResponse(found=True, value=row.payload, version=row.version)


def write_response(result: CommitResult) -> pb.WriteResponse:
    """Return the answer of a Write."""
    return pb.WriteResponse(
        applied=result.applied,
        version=result.version,
        failed_condition=max(0, result.failed_condition),
        current_version=result.current_version,
    )
