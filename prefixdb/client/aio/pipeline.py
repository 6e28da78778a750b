"""Many independent operations over one stream, with a bounded number of messages under way.

Nothing is atomic here: every operation succeeds or fails alone, in order. It is the fast way to write or read a lot:
one message carries hundreds of operations and nobody waits for each answer.

A stream lives no longer than the token it was opened with. When a login renews its token, the pipeline takes the
answers that are still to come and goes on over a new stream, so that the order holds.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any, Self

from prefixdb.client import methods
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.aio.exchange import AsyncExchange
from prefixdb.client.encoding import (
    Key,
    Lifetime,
    encode_key,
    encode_value,
    row_test,
    ttl_to_ms,
)
from prefixdb.client.failures import unanswered
from prefixdb.client.pending import MESSAGE_BYTES_MAX, Pending, delete_version, got_value, put_version
from prefixdb.errors import PrefixdbError, Reason, UnauthenticatedError, error
from prefixdb.limits import PIPELINE_OPERATIONS_MAX
from prefixdb.v1 import key_value_pb2


class AsyncPipeline:
    """Operations on their way. Used as ``async with db.pipeline() as p:``.

    Each operation returns a ``Pending``; keep it if you want its result. Leaving the block waits for all answers and
    raises the first error, with the number of operations that failed, unless ``raise_errors`` is False.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        *,
        database: int,
        deadline_s: float,
        batch: int,
        in_flight: int,
        raise_errors: bool,
    ) -> None:
        if not 1 <= batch <= PIPELINE_OPERATIONS_MAX or in_flight < 1:
            message = f"batch is 1 to {PIPELINE_OPERATIONS_MAX} operations, in_flight at least 1 message."
            raise error(Reason.BAD_FIELD, message)
        self._connection = connection
        self._database = database
        self._deadline_s = deadline_s
        self._batch = batch
        self._in_flight_max = in_flight
        self._raise_errors = raise_errors
        self._exchange: AsyncExchange[Any, key_value_pb2.PipelineResponse] | None = None
        self._answered = False
        self._refused: str | None = None
        self._message = key_value_pb2.PipelineRequest()
        self._message_bytes = 0
        self._waiting: list[Pending[Any]] = []
        self._under_way: deque[list[Pending[Any]]] = deque()
        self.sent = 0
        """Operations handed in so far."""
        self.failed = 0
        """Operations that failed so far."""
        self.first_error: PrefixdbError | None = None

    def __repr__(self) -> str:
        return f"AsyncPipeline({self.sent} operations, {self.failed} failed, {len(self._under_way)} messages under way)"

    async def get(self, key: Key) -> Pending[bytes | None]:
        """Read a row."""
        request = key_value_pb2.GetRequest(key=encode_key(key), database=self._database)
        return await self._add(key_value_pb2.Operation(get=request), Pending(got_value), len(request.key))

    async def put(
        self,
        key: Key,
        value: bytes,
        *,
        ttl: Lifetime | None = None,
        if_version: int | None = None,
        if_absent: bool = False,
    ) -> Pending[int]:
        """Write a row; its result is the version."""
        request = key_value_pb2.PutRequest(
            key=encode_key(key),
            value=encode_value(value),
            database=self._database,
            ttl_ms=ttl_to_ms(ttl),
            condition=row_test(version=if_version, absent=if_absent),
        )
        size = len(request.key) + len(request.value)
        return await self._add(key_value_pb2.Operation(put=request), Pending(put_version), size)

    async def delete(self, key: Key, *, if_version: int | None = None) -> Pending[int]:
        """Remove a row; its result is the version."""
        request = key_value_pb2.DeleteRequest(
            key=encode_key(key), database=self._database, condition=row_test(version=if_version)
        )
        return await self._add(key_value_pb2.Operation(delete=request), Pending(delete_version), len(request.key))

    async def flush(self) -> None:
        """Send what is gathered and wait for every answer."""
        await self._send()
        while self._under_way:
            await self._receive()

    async def close(self) -> None:
        """Flush and end the stream."""
        try:
            await self.flush()
            if self._exchange is not None:
                await self._exchange.finish_sending()
                await self._exchange.receive(self._deadline_s)
        finally:
            self.cancel()

    def cancel(self) -> None:
        """End the stream at once; what has no answer yet may or may not be applied."""
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None
        if self._waiting or self._under_way:
            self._fail_all(error(Reason.OUTCOME_UNKNOWN, "The pipeline was left before this operation was answered."))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.cancel()
            return
        await self.close()
        if self.first_error is not None and self._raise_errors:
            self.first_error.add_note(f"{self.failed} of the pipeline's {self.sent} operations failed.")
            raise self.first_error

    async def _add(self, operation: key_value_pb2.Operation, pending: Pending[Any], size: int) -> Pending[Any]:
        if self._message.operations and self._message_bytes + size > MESSAGE_BYTES_MAX:
            await self._send()
        self._message.operations.append(operation)
        self._message_bytes += size
        self._waiting.append(pending)
        self.sent += 1
        if len(self._waiting) >= self._batch:
            await self._send()
        return pending

    async def _send(self) -> None:
        """Send the gathered operations, after waiting for an answer when enough messages are under way."""
        if not self._waiting:
            return
        while len(self._under_way) >= self._in_flight_max:
            await self._receive()
        if self._exchange is not None and not await self._is_current(self._exchange):
            while self._under_way:
                await self._receive()
            self._leave_stream()
        message, pending = self._message, self._waiting
        self._message, self._message_bytes, self._waiting = key_value_pb2.PipelineRequest(id=message.id + 1), 0, []
        self._under_way.append(pending)
        try:
            exchange = self._exchange if self._exchange is not None else await self._open_stream()
            await exchange.send(message, self._deadline_s)
        except PrefixdbError as failure:
            self._break(failure)
            raise

    async def _is_current(self, exchange: AsyncExchange[Any, key_value_pb2.PipelineResponse]) -> bool:
        """True while the stream's token is the one for new calls."""
        try:
            return await self._connection.token_is_current(exchange.token)
        except PrefixdbError as failure:
            self._break(failure)
            raise

    async def _open_stream(self) -> AsyncExchange[Any, key_value_pb2.PipelineResponse]:
        refused, self._refused = self._refused, None
        if refused is not None:
            await self._connection.renew(refused)
        self._answered = False
        self._exchange = exchange = await self._connection.open_duplex(methods.PIPELINE)
        # An empty message is the first: a refusal that comes instead of its answer comes before anything was begun.
        await exchange.send(key_value_pb2.PipelineRequest(), self._deadline_s)
        self._under_way.appendleft([])
        return exchange

    async def _receive(self) -> None:
        """Take the next answer, which is the oldest message's."""
        if self._exchange is None:
            raise error(Reason.CANCELLED, "The pipeline has ended.")
        try:
            answer = await self._exchange.receive(self._deadline_s)
        except PrefixdbError as failure:
            self._break(failure)
            raise
        pending = self._under_way[0]
        if answer is None or len(answer.results) != len(pending):
            short = error(Reason.OUTCOME_UNKNOWN, "The server ended the pipeline before it answered everything.")
            self._break(short)
            raise short
        self._answered = True
        self._under_way.popleft()
        for promise, result in zip(pending, answer.results, strict=True):
            failed = promise.settle(result)
            if failed is not None:
                self._note(failed)

    def _break(self, failure: PrefixdbError) -> None:
        """The stream failed: so did everything that has no answer. A new stream serves what comes next."""
        if isinstance(failure, UnauthenticatedError) and self._exchange is not None:
            self._refused = self._exchange.token
        self._fail_all(unanswered(failure, admitted=self._answered) if self._under_way else failure)
        self._leave_stream()

    def _leave_stream(self) -> None:
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None

    def _fail_all(self, failure: PrefixdbError) -> None:
        for pending in [*self._under_way, self._waiting]:
            for promise in pending:
                promise.fail(failure)
                self._note(failure)
        self._under_way.clear()
        self._waiting = []
        self._message, self._message_bytes = key_value_pb2.PipelineRequest(id=self._message.id), 0

    def _note(self, failure: PrefixdbError) -> None:
        self.failed += 1
        if self.first_error is None:
            self.first_error = failure
