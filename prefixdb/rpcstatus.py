"""Errors ↔ gRPC: the one place where a :class:`PrefixdbError` becomes a status and a status an error again.

    status  := code, message, details [ErrorInfo{reason, domain "prefixdb", metadata}, RetryInfo when a retry can help]
    trailer := "grpc-status-details-bin": google.rpc.Status as bytes

Only ``google.rpc`` messages and integers are used, so the client and the server share it and neither needs grpc here.
"""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from prefixdb.errors import Code, OutcomeUnknownError, PrefixdbError, Reason, error
from prefixdb.v1 import error_pb2

DOMAIN = "prefixdb"
DETAILS_KEY = "grpc-status-details-bin"

RETRY_AFTER_MS_DEFAULT = 100
"""RetryInfo of a retryable error that does not know better."""

_REASON_OF_CODE = {
    Code.CANCELLED: Reason.CANCELLED,
    Code.INVALID_ARGUMENT: Reason.BAD_FIELD,
    Code.DEADLINE_EXCEEDED: Reason.DEADLINE,
    Code.PERMISSION_DENIED: Reason.NOT_PERMITTED,
    Code.RESOURCE_EXHAUSTED: Reason.REQUEST_TOO_LARGE,
    Code.ABORTED: Reason.CONFLICT,
    Code.UNIMPLEMENTED: Reason.METHOD_UNKNOWN,
    Code.UNAVAILABLE: Reason.UNREACHABLE,
    Code.DATA_LOSS: Reason.CORRUPTION,
    Code.UNAUTHENTICATED: Reason.TOKEN_INVALID,
}
"""What a status without our ErrorInfo means: it was made by gRPC itself or by something between client and server."""


def retry_after_ms(failure: PrefixdbError) -> int | None:
    """Return how long to wait before a retry, or None when no retry can help."""
    if not failure.reason.value.retryable:
        return None
    return RETRY_AFTER_MS_DEFAULT if failure.retry_after_ms is None else failure.retry_after_ms


def to_status(failure: PrefixdbError) -> Status:
    """Return the ``google.rpc.Status`` of an error."""
    status = Status(code=int(failure.code), message=failure.message)
    status.details.add().Pack(ErrorInfo(reason=failure.reason.name, domain=DOMAIN, metadata=failure.metadata))
    wait_ms = retry_after_ms(failure)
    if wait_ms is not None:
        delay = Duration()
        delay.FromMilliseconds(wait_ms)
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    return status


def from_status(code: int, message: str, details: bytes | None) -> PrefixdbError:
    """Return the error a status stands for; never raises, whatever the bytes.

    Args:
        code: gRPC status code, not 0.
        message: the status message.
        details: the value of the ``grpc-status-details-bin`` trailer, if there was one.
    """
    info, wait_ms = _parse_details(details)
    if info is not None and info.domain == DOMAIN and info.reason in Reason.__members__:
        return error(Reason[info.reason], message, metadata=dict(info.metadata), retry_after_ms=wait_ms)
    known = Code(code) if code in Code._value2member_map_ else Code.UNKNOWN
    metadata = {"grpc_code": known.name}
    if info is not None:  # A newer server's reason: keep its name, fall back to what the code says.
        metadata |= dict(info.metadata) | {"reason": info.reason}
    return error(_REASON_OF_CODE.get(known, Reason.INTERNAL), message, metadata=metadata, retry_after_ms=wait_ms)


def to_message(failure: PrefixdbError) -> error_pb2.Error:
    """Return the error as a message, for one failed operation inside a call that succeeded."""
    return error_pb2.Error(
        code=int(failure.code),
        reason=failure.reason.value.number,  # type: ignore[arg-type]  # an open enum takes its number
        message=failure.message,
        metadata=failure.metadata,
        retry_after_ms=retry_after_ms(failure),
    )


def from_message(message: error_pb2.Error) -> PrefixdbError:
    """Return the error of one failed operation."""
    wait_ms = message.retry_after_ms if message.HasField("retry_after_ms") else None
    reason = _REASON_OF_NUMBER.get(message.reason)
    if reason is None:
        known = Code(message.code) if message.code in Code._value2member_map_ else Code.UNKNOWN
        reason = _REASON_OF_CODE.get(known, Reason.INTERNAL)
    return error(reason, message.message, metadata=dict(message.metadata), retry_after_ms=wait_ms)


def write_outcome_unknown(failure: PrefixdbError) -> bool:
    """True when ``failure`` leaves open whether a write was applied."""
    return isinstance(failure, OutcomeUnknownError) or failure.reason in {
        Reason.DEADLINE,
        Reason.CANCELLED,
        Reason.UNREACHABLE,
        Reason.INTERNAL,
    }


def _parse_details(details: bytes | None) -> tuple[ErrorInfo | None, int | None]:
    """Return the ErrorInfo and the retry delay in milliseconds found in ``details``."""
    if not details:
        return None, None
    status = Status()
    info: ErrorInfo | None = None
    wait_ms: int | None = None
    try:
        status.ParseFromString(details)
        for detail in status.details:
            if detail.Is(ErrorInfo.DESCRIPTOR):
                info = ErrorInfo()
                detail.Unpack(info)
            elif detail.Is(RetryInfo.DESCRIPTOR):
                delay = RetryInfo()
                detail.Unpack(delay)
                wait_ms = delay.retry_delay.ToMilliseconds()
    except DecodeError:  # Details of something that is not ours.
        return None, None
    return info, wait_ms


_REASON_OF_NUMBER = {reason.value.number: reason for reason in Reason}
