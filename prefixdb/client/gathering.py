"""What a gatherer holds: calls of single rows that wait for the next message, and messages that wait for their answers.

    handed in ──► waiting ──take──► under way ──settle──► answered
                     ▲                  │
                     └────── broken ────┘   the stream ended; what certainly was not carried out, and reads, go again

The two gatherers, ``aio/gatherer.py`` and ``sync/gatherer.py``, move what is here. Nothing here waits, sends or locks.

Whether a write whose stream broke may have been carried out is decided by a first, empty message on every stream: the
server answers messages in order, so a refusal that comes instead of that answer comes before anything was begun.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

import grpc

from prefixdb.client.failures import (
    copy_of,
    deadline_exceeded,
    in_doubt,
    operation_failed,
    translate,
    unanswered,
)
from prefixdb.client.operations import Operation
from prefixdb.client.pending import MESSAGE_BYTES_MAX
from prefixdb.errors import (
    PermissionDeniedError,
    PrefixdbError,
    Reason,
    UnauthenticatedError,
    UnavailableError,
    error,
)
from prefixdb.limits import KIB, MIB
from prefixdb.v1 import key_value_pb2

OPERATIONS_MAX = 128
"""Operations of one gathered message. Larger ones cost hardly less for each operation, and while one message is being
answered its callers are idle: several of this size keep both sides busy (measured with 256 callers)."""

ANSWER_BYTES_WANTED = 1 * MIB
"""A message takes fewer reads when answers have been so large lately that more would come to more than this."""

ALONE_BYTES = 256 * KIB
"""A request so large is a call of its own: sent in between, it would hold up the small ones behind it."""

IDLE_S = 30.0
"""A stream that had nothing to do for so long is ended: the server has a limited number of them to give away."""

STREAM_S_MAX = 300.0
"""A stream is replaced by a new one after so long. The server ends connections after an hour, and gives calls that are
still open ten minutes."""

GOODBYE_S = 1.0
"""How long the server may take to end a stream that the client has ended."""

BYPASS_S = 5.0
"""How long calls go one by one after the server had no stream to give."""

_PURGE_AT = 1024
"""So many are handed in before those that were given up are looked for."""


class Gathering:
    """The state of one gatherer. Not thread-safe.

    Args:
        endpoint: where the calls go, for messages.
    """

    def __init__(self, endpoint: str) -> None:
        self.waiting: deque[Operation] = deque()
        self.under_way: deque[list[Operation]] = deque()
        self.admitted = False
        """True once the stream has answered: what it is sent from then on may be carried out though it ends."""
        self.refusal: tuple[str | None, PrefixdbError] | None = None
        """The token that was refused, and how: another one is looked for before the next stream is opened."""
        self.bypass_until_s = 0.0
        """Until then calls go alone: the server had no stream to give."""
        self._renewed = False
        self._endpoint = endpoint
        self._last_id = 0
        self._operations_max = OPERATIONS_MAX
        self._purge_at = _PURGE_AT

    @property
    def idle(self) -> bool:
        """True when nobody waits for anything."""
        return not self.waiting and not self.under_way

    def hand_in(self, operation: Operation) -> None:
        """Put an operation behind those that wait."""
        self.waiting.append(operation)
        if len(self.waiting) > self._purge_at:
            self._purge()

    def first(self) -> key_value_pb2.PipelineRequest:
        """Return the empty message that a new stream begins with, which is under way then."""
        self.admitted = False
        self._last_id = 1
        self.under_way.append([])
        return key_value_pb2.PipelineRequest(id=1)

    def take(self) -> key_value_pb2.PipelineRequest | None:
        """Return the next message, which is under way then; None when all that waited was given up."""
        waiting = self.waiting
        taken: list[Operation] = []
        message = key_value_pb2.PipelineRequest()
        add, left = message.operations.add, MESSAGE_BYTES_MAX
        while waiting and len(taken) < self._operations_max:
            operation = waiting[0]
            if not operation.promise.done():
                left -= operation.size
                if left < 0 and taken:
                    break
                getattr(add(), operation.method.operation).CopyFrom(operation.request)
                taken.append(operation)
            waiting.popleft()
        if not taken:
            return None
        self._last_id += 1
        message.id = self._last_id
        self.under_way.append(taken)
        return message

    def settle(self, answer: key_value_pb2.PipelineResponse) -> bool:
        """Give the oldest message's callers their answers; False when this is no answer to it."""
        if not self.under_way:
            return False
        operations, results = self.under_way[0], answer.results
        if len(results) != len(operations) or answer.id != self._last_id + 1 - len(self.under_way):
            return False
        self.under_way.popleft()
        self.admitted = True
        self._renewed = False
        for operation, result in zip(operations, results, strict=True):
            promise, part = operation.promise, operation.method.operation
            if promise.done():
                continue
            if result.HasField(part):
                promise.set_result(getattr(result, part))
            else:
                promise.set_exception(self._failure_of(operation, result))
        if operations:
            share = answer.ByteSize() // len(operations) + 1
            self._operations_max = max(1, min(OPERATIONS_MAX, ANSWER_BYTES_WANTED // share))
        return True

    def expire(self, now_s: float) -> float:
        """Fail what was due by ``now_s``; return when the next is due, infinity when nothing is left."""
        next_s = float("inf")
        for operations in (self.waiting, *self.under_way):
            for operation in operations:
                if operation.promise.done():
                    continue
                if operation.due_s <= now_s:
                    late = deadline_exceeded(writes=operation.method.writes, deadline_s=operation.deadline_s)
                    operation.promise.set_exception(late)
                elif operation.due_s < next_s:
                    next_s = operation.due_s
        self._purge()
        return next_s

    def abandoned(self) -> bool:
        """True when operations are under way and nobody waits for any of them."""
        return any(self.under_way) and all(
            operation.promise.done() for operations in self.under_way for operation in operations
        )

    def broken(self, token: str | None, failure: PrefixdbError) -> None:
        """Take back what was under way on a stream that has ended.

        When the token was refused, what certainly was not carried out, and reads, wait once more, before all others and
        in their order; for another token, which ``refusal`` asks for.

        Args:
            token: what the stream was opened with.
            failure: why it ended.
        """
        sent = [operation for operations in self.under_way for operation in operations]
        self.under_way.clear()
        clean = not self.admitted and not in_doubt(failure)
        again = isinstance(failure, UnauthenticatedError) and not self._renewed
        self._renewed = False
        if again and sent:  # A stream that ends while it is idle says nothing about the next one.
            self.refusal = (token, failure)
        back = []
        for operation in sent:
            if operation.promise.done():
                continue
            if again and (clean or not operation.method.writes):
                back.append(operation)
            else:
                operation.promise.set_exception(self._loss_of(operation, failure, clean=clean))
        self.waiting.extendleft(reversed(back))
        if clean and _has_no_streams(failure):
            self.bypass_until_s = time.monotonic() + BYPASS_S
            for operation in self.waiting:
                if not operation.promise.done():
                    operation.promise.set_exception(operation.alone())
            self.waiting.clear()

    def renew(self, found: bool) -> None:
        """Go on after a refusal, with another token if one was found; else all who wait are refused, too."""
        refusal, self.refusal = self.refusal, None
        self._renewed = found
        if refusal is not None and not found:
            self.fail(refusal[1])

    def fail(self, failure: PrefixdbError) -> None:
        """Fail everything that waits; none of it was sent."""
        _fail(self.waiting, failure)
        self.waiting.clear()

    def fail_all(self, failure: BaseException) -> None:
        """Fail everything, sent or not, with one failure."""
        for operations in (*self.under_way, self.waiting):
            _fail(operations, failure)
        self.under_way.clear()
        self.waiting.clear()

    def _failure_of(self, operation: Operation, result: key_value_pb2.OperationResult) -> Exception:
        """Return what an operation that failed by itself is told."""
        writes = operation.method.writes
        if not result.HasField("error"):
            text = "The server answered another operation than the one it was sent."
            return error(Reason.OUTCOME_UNKNOWN if writes else Reason.INTERNAL, text)
        failure = operation_failed(
            result.error, writes=writes, deadline_s=operation.deadline_s, endpoint=self._endpoint
        )
        if writes:
            return failure
        if failure.reason is Reason.BATCH_TOO_LARGE:  # What others asked for had filled the answer.
            return operation.alone()
        return operation.again(failure) if isinstance(failure, UnavailableError) else failure

    def _loss_of(self, operation: Operation, failure: PrefixdbError, *, clean: bool) -> Exception:
        """Return what an operation is told whose stream ended with ``failure``."""
        if clean and _has_no_streams(failure):
            return operation.alone()
        if operation.method.writes:
            return copy_of(unanswered(failure, admitted=self.admitted))
        cause = failure.__cause__
        if isinstance(cause, grpc.RpcError):
            failure = translate(cause, writes=False, deadline_s=operation.deadline_s, endpoint=self._endpoint)
            failure.__cause__ = cause
        if failure.reason is Reason.OUTCOME_UNKNOWN:
            failure = error(Reason.UNREACHABLE, failure.message)
        if isinstance(failure, UnavailableError):
            return operation.again(copy_of(failure))
        if isinstance(failure, PermissionDeniedError | UnauthenticatedError):
            return copy_of(failure)
        # It says something about the stream, or about a neighbour; only a call by itself hears what is said about it.
        return operation.alone()

    def _purge(self) -> None:
        """Forget what was given up before it was sent."""
        kept = [operation for operation in self.waiting if not operation.promise.done()]
        if len(kept) < len(self.waiting):
            self.waiting = deque(kept)
        self._purge_at = max(_PURGE_AT, 2 * len(kept))


def ended() -> PrefixdbError:
    """Return the failure of a stream that the server ended without an error, or answered wrongly."""
    return error(Reason.OUTCOME_UNKNOWN, "The server ended the stream before it answered everything.")


def _has_no_streams(failure: PrefixdbError) -> bool:
    """True when the server has no stream for this client, but may well answer single calls."""
    return failure.reason in {Reason.TOO_MANY_STREAMS, Reason.METHOD_UNKNOWN}


def _fail(operations: Iterable[Operation], failure: BaseException) -> None:
    for operation in operations:
        if not operation.promise.done():
            own = copy_of(failure) if isinstance(failure, PrefixdbError) else failure
            operation.promise.set_exception(own)
