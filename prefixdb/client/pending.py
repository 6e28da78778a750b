"""Promises of pipelines: what an operation will return once its message was answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from prefixdb.errors import ConflictError, OutcomeUnknownError, PrefixdbError, Reason
from prefixdb.limits import MIB
from prefixdb.rpcstatus import from_message
from prefixdb.v1 import key_value_pb2

MESSAGE_BYTES_MAX = 1 * MIB
"""A message is sent when it has grown so large, however few operations it has."""

T = TypeVar("T")


class Pending(Generic[T]):
    """The result of one operation of a pipeline, known after ``flush()`` or the end of the ``with`` block."""

    __slots__ = ("_convert", "_error", "_result")

    def __init__(self, convert: Callable[[key_value_pb2.OperationResult], T]) -> None:
        self._convert = convert
        self._result: key_value_pb2.OperationResult | None = None
        self._error: PrefixdbError | None = None

    def __repr__(self) -> str:
        state = "failed" if self._error is not None else "done" if self.done else "not answered yet"
        return f"Pending({state})"

    @property
    def done(self) -> bool:
        """True when the answer, or the failure, is known."""
        return self._result is not None or self._error is not None

    def result(self) -> T:
        """Return what the operation returned.

        Raises:
            PrefixdbError: the operation failed.
            RuntimeError: it was not answered yet; flush first.
        """
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise RuntimeError("This operation has no answer yet: call flush() or leave the pipeline's block first.")
        return self._convert(self._result)

    def settle(self, result: key_value_pb2.OperationResult) -> PrefixdbError | None:
        """Take the answer; return the operation's error if it is one."""
        if result.WhichOneof("result") == "error":
            return self.fail(from_message(result.error))
        try:
            self._convert(result)
        except PrefixdbError as failure:
            return self.fail(failure)
        self._result = result
        return None

    def fail(self, failure: PrefixdbError) -> PrefixdbError:
        """Take a failure and return it."""
        self._error = failure
        return failure


def condition_unmet(current_version: int) -> ConflictError:
    """Return the error of a write whose condition did not hold."""
    now = f"the row's version is {current_version} now" if current_version else "there is no such row now"
    return ConflictError(
        Reason.CONFLICT,
        f"The condition does not hold: {now}. Nothing was written.",
        metadata={"current_version": str(current_version)},
    )


def repeat_in_doubt() -> OutcomeUnknownError:
    """Return the error of a repeated write whose condition no longer holds: the first try may be the reason."""
    return OutcomeUnknownError(
        Reason.OUTCOME_UNKNOWN,
        "The answer to the write was lost, and repeating it did not settle its outcome: either the first try was "
        "applied, or nothing was. Read the row to see.",
    )


def got_value(result: key_value_pb2.OperationResult) -> bytes | None:
    """Return the value of a Get, None for a missing row."""
    return result.get.value if result.get.found else None


def put_version(result: key_value_pb2.OperationResult) -> int:
    """Return the version a Put wrote, or raise ``ConflictError``."""
    if not result.put.applied:
        raise condition_unmet(result.put.current_version)
    return result.put.version


def delete_version(result: key_value_pb2.OperationResult) -> int:
    """Return the version of a Delete, or raise ``ConflictError``."""
    if not result.delete.applied:
        raise condition_unmet(result.delete.current_version)
    return result.delete.version
