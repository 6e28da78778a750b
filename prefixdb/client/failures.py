"""gRPC's errors become ours: the one place of the client where an ``RpcError`` is looked into.

The gRPC error stays on as ``__cause__``. For a write the translation is careful with one question: may it have been
applied? Only what certainly never left this machine, or was refused with a reason, is called "not applied".
"""

from __future__ import annotations

import re
from typing import Any, cast

import grpc

from prefixdb.errors import Code, PrefixdbError, Reason, error
from prefixdb.rpcstatus import DETAILS_KEY, from_message, from_status, write_outcome_unknown
from prefixdb.v1 import error_pb2

_NEVER_SENT = ("failed to connect to all addresses", "DNS resolution failed", "Name resolution failure")
"""How gRPC's messages begin when no connection was there to send on. Anything else is treated as perhaps sent."""

_TELLING = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not signed by an authority this client trusts (see tls.ca)",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "Hostname Verification": "its certificate is for another host name",
    "andshake failed": "the TLS handshake failed",
    "Handshake read failed": "the TLS handshake was broken off",
    "TSI_DATA_CORRUPTED": "it ends the TLS connection; it may expect a client's certificate",
    "Socket closed": "it closes the connection; it may expect TLS, or a client's certificate",
    "Connection refused": "nothing listens there",
    "DNS resolution failed": "the host name cannot be resolved",
    "Name resolution failure": "the host name cannot be resolved",
    "No such file": "there is no such socket",
}
"""What gRPC's words mean, the more telling first."""

_TOO_LARGE = re.compile(r"(Sent|Received) message larger than max \((\d+) vs\. (\d+)\)")
"""How gRPC of either side refuses a message by its size; it knows no word for what to do."""

_WRITE_DOUBT = "The write may or may not have been applied, wholly or not at all; read before you write again."


def translate(cause: grpc.RpcError, *, writes: bool, deadline_s: float, endpoint: str) -> PrefixdbError:
    """Return our error for a failed call.

    Args:
        cause: what gRPC raised.
        writes: whether the call could have changed something.
        deadline_s: the deadline the call had, for the message.
        endpoint: where it went, for the message.
    """
    call = cast("Any", cause)  # Every error of a call is also the call: it has code(), details(), trailing_metadata().
    code = call.code()
    number = int(code.value[0]) if code is not None else int(Code.UNKNOWN)
    text = call.details() or ""
    failure = from_status(number, text, _details_of(call))
    return _in_our_words(failure, text, writes=writes, deadline_s=deadline_s, endpoint=endpoint)


def operation_failed(message: error_pb2.Error, *, writes: bool, deadline_s: float, endpoint: str) -> PrefixdbError:
    """Return the error of one operation of a message that was answered; the arguments are those of ``translate``."""
    failure = from_message(message)
    return _in_our_words(failure, failure.message, writes=writes, deadline_s=deadline_s, endpoint=endpoint)


def _in_our_words(
    failure: PrefixdbError, text: str, *, writes: bool, deadline_s: float, endpoint: str
) -> PrefixdbError:
    """Return ``failure`` with what the client knows better than who sent it."""
    if failure.reason is Reason.DEADLINE:
        return deadline_exceeded(writes=writes, deadline_s=deadline_s)
    if failure.reason is Reason.UNREACHABLE:
        return _unreachable(text, failure, writes=writes, endpoint=endpoint)
    if failure.reason is Reason.REQUEST_TOO_LARGE:
        return _too_large(text, failure)
    if failure.reason is Reason.TOKEN_MISSING:
        message = "The server was shown no token: give connect() a user and a password_file, a token_file or a profile."
        return error(Reason.TOKEN_MISSING, message, metadata=failure.metadata)
    if writes and write_outcome_unknown(failure) and failure.reason is not Reason.OUTCOME_UNKNOWN:
        failure.message = f"{failure.message.rstrip('.')}. {_WRITE_DOUBT}"
        failure.args = (failure.message,)
    return failure


def deadline_exceeded(*, writes: bool, deadline_s: float) -> PrefixdbError:
    """Return the error of a deadline that passed."""
    message = f"No answer within the deadline of {deadline_s:g} s."
    message += f" {_WRITE_DOUBT}" if writes else " The server is slow or far away; raise the deadline or look at it."
    return error(Reason.DEADLINE, message, metadata={"deadline_s": f"{deadline_s:g}"})


def in_doubt(failure: PrefixdbError) -> bool:
    """True when a write that failed so may have been applied. UNREACHABLE is only raised here for what was not sent."""
    return write_outcome_unknown(failure) and failure.reason is not Reason.UNREACHABLE


def unanswered(failure: PrefixdbError, *, admitted: bool) -> PrefixdbError:
    """Return what a write is told whose stream failed before its answer came.

    Args:
        failure: of the stream.
        admitted: whether the server had let the stream in: then it may have carried the write out before the token or
            the namespace ended.
    """
    if not admitted or in_doubt(failure):
        return failure
    told = error(Reason.OUTCOME_UNKNOWN, f"The stream ended before this was answered: {failure.message}")
    told.__cause__ = failure
    return told


def copy_of(failure: PrefixdbError) -> PrefixdbError:
    """Return the same error once more: each of many callers raises one of its own, with its own traceback."""
    twin = error(failure.reason, failure.message, metadata=failure.metadata, retry_after_ms=failure.retry_after_ms)
    twin.__cause__ = failure.__cause__
    return twin


def closed() -> PrefixdbError:
    """Return the error of using a client after ``close()``."""
    return error(Reason.CANCELLED, "The client is closed; connect again.")


def _unreachable(text: str, failure: PrefixdbError, *, writes: bool, endpoint: str) -> PrefixdbError:
    """Return "cannot be reached", or for a write that may have left this machine "outcome unknown"."""
    metadata = {"endpoint": endpoint} | failure.metadata
    if any(text.startswith(start) for start in _NEVER_SENT):
        message = f"No server can be reached at {endpoint}: {_meaning(text)}. Nothing was sent."
        return error(Reason.UNREACHABLE, message, metadata=metadata)
    if writes:
        message = f"The connection to {endpoint} was lost before the answer came. {_WRITE_DOUBT}"
        return error(Reason.OUTCOME_UNKNOWN, message, metadata=metadata)
    message = f"The connection to {endpoint} was lost before the answer came; nothing was changed, try again."
    return error(Reason.UNREACHABLE, message, metadata=metadata, retry_after_ms=failure.retry_after_ms)


def _too_large(text: str, failure: PrefixdbError) -> PrefixdbError:
    """Return gRPC's refusal of a message in our words; a refusal of our server's has them already."""
    found = _TOO_LARGE.search(text)
    if found is None:
        return failure
    direction, size, limit = found.groups()
    what = "The request" if direction == "Sent" or text.startswith("SERVER") else "The answer"
    message = f"{what} has {size} bytes; the limit of one message is {limit}. Split it into smaller calls."
    return error(Reason.REQUEST_TOO_LARGE, message, metadata={"size": size, "limit": limit})


def _meaning(text: str) -> str:
    """Return what gRPC's nested message comes down to, or its end when that is not known."""
    for words, meaning in _TELLING.items():
        if words in text:
            return meaning
    return text.rsplit(": ", 1)[-1].strip().rstrip(".")[:200]


def _details_of(call: Any) -> bytes | None:
    """Return the status details of the trailing metadata."""
    for key, value in call.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return value
    return None
