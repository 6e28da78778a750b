"""Pipeline: many independent operations in each message, answered in order.

Consecutive writes of a message go to the committer together and share one sync. A read waits for the writes before it,
so an operation sees the effects of those before it on the same stream. Whatever is wrong with one operation is the
answer to that operation alone; what is wrong with the token or the namespace ends the stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefixdb.errors import InternalError, PrefixdbError, Reason, error
from prefixdb.limits import PIPELINE_OPERATIONS_MAX, RESPONSE_BYTES_MAX
from prefixdb.rpcstatus import to_message
from prefixdb.service.calls import Call, Wire, parse
from prefixdb.service.writer import Change
from prefixdb.store.base import CommitResult
from prefixdb.v1 import key_value_pb2 as pb

if TYPE_CHECKING:
    from prefixdb.service.key_value import KeyValue

_RESULT_BYTES = 64
"""What one result takes beside the values in it, at most; an error takes more and is rare."""


async def run_pipeline(service: KeyValue, call: Call, wire: Wire) -> None:
    """Answer messages until the client has sent its last.

    Raises:
        InvalidArgumentError: BAD_FIELD or BATCH_TOO_LARGE, a message that cannot be understood at all.
        UnauthenticatedError, PermissionDeniedError: the token or the namespace is not good any more.
    """
    while (raw := await wire.receive()) is not None:
        call.refresh()
        request = parse(pb.PipelineRequest, raw)
        count = len(request.operations)
        if count > PIPELINE_OPERATIONS_MAX:
            raise error(
                Reason.BATCH_TOO_LARGE,
                f"The message has {count} operations; the limit is {PIPELINE_OPERATIONS_MAX}.",
                metadata={"size": str(count), "limit": str(PIPELINE_OPERATIONS_MAX)},
            )
        results = await _Message(service, call).answer(request)
        call.refresh()
        await wire.send(pb.PipelineResponse(id=request.id, results=results))


class _Message:
    """The operations of one message on their way."""

    def __init__(self, service: KeyValue, call: Call) -> None:
        self._service = service
        self._call = call
        self._results: list[pb.OperationResult] = []
        self._waiting: list[tuple[int, Change, Callable[[CommitResult], pb.OperationResult]]] = []
        self._bytes_left = RESPONSE_BYTES_MAX

    async def answer(self, request: pb.PipelineRequest) -> list[pb.OperationResult]:
        """Return one result for each operation, in order."""
        for operation in request.operations:
            which = operation.WhichOneof("operation")
            if self._waiting and which in {"get", "batch_get"}:
                await self._write_waiting()
                self._call.refresh()
            self._bytes_left -= _RESULT_BYTES
            try:
                result = await self._start(which, operation)
            except PrefixdbError as failure:
                if isinstance(failure, InternalError):
                    raise
                result = pb.OperationResult(error=to_message(failure))
            self._results.append(result)
        await self._write_waiting()
        return self._results

    async def _start(self, which: str | None, operation: pb.Operation) -> pb.OperationResult:
        """Answer a read, or queue a write and return a placeholder for its result."""
        service, call = self._service, self._call
        if which == "get":
            reply = service.Get(call, operation.get)
            self._spend(len(reply.value))
            return pb.OperationResult(get=reply)
        if which == "batch_get":
            rows = await service.read_batch(call, operation.batch_get)
            batch = service.found(rows, max(0, self._bytes_left))
            self._spend(batch.ByteSize())
            return pb.OperationResult(batch_get=batch)
        if which == "put":
            return self._queue(service.put_change(call, operation.put), _put_result)
        if which == "delete":
            return self._queue(service.delete_change(call, operation.delete), _delete_result)
        if which == "write":
            return self._queue(service.write_change(call, operation.write), _write_result)
        raise error(Reason.BAD_FIELD, "operations must each have an operation.", metadata={"field": "operations"})

    def _queue(self, change: Change, make: Callable[[CommitResult], pb.OperationResult]) -> pb.OperationResult:
        self._waiting.append((len(self._results), change, make))
        return pb.OperationResult()

    async def _write_waiting(self) -> None:
        """Commit the queued writes and put their results into the places kept for them."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        outcomes = await self._service.writer.commit_all(self._call, [change for _, change, _ in waiting])
        for (index, _, make), outcome in zip(waiting, outcomes, strict=True):
            if isinstance(outcome, PrefixdbError):
                self._results[index] = pb.OperationResult(error=to_message(outcome))
            else:
                self._results[index] = make(outcome)

    def _spend(self, size: int) -> None:
        """Take ``size`` off what the response may still carry."""
        if size > self._bytes_left:
            message = "The response would be too large; ask for less in one message."
            raise error(Reason.BATCH_TOO_LARGE, message, metadata={"limit": str(RESPONSE_BYTES_MAX)})
        self._bytes_left -= size


def _put_result(result: CommitResult) -> pb.OperationResult:
    return pb.OperationResult(put=pb.PutResponse(**_outcome(result)))


def _delete_result(result: CommitResult) -> pb.OperationResult:
    return pb.OperationResult(delete=pb.DeleteResponse(**_outcome(result)))


def _write_result(result: CommitResult) -> pb.OperationResult:
    return pb.OperationResult(
        write=pb.WriteResponse(**_outcome(result), failed_condition=max(0, result.failed_condition))
    )


def _outcome(result: CommitResult) -> dict[str, Any]:
    return {"applied": result.applied, "version": result.version, "current_version": result.current_version}
