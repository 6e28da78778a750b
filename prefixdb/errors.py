"""The exception tree, and the one table of reasons.

    PrefixdbError
    ├── InvalidArgumentError    (ValueError)       the request cannot be right; nothing was done
    ├── UnauthenticatedError    (PermissionError)  who are you?
    ├── PermissionDeniedError   (PermissionError)  you may not
    │   ├── NamespaceSuspendedError
    │   └── NamespaceBannedError
    ├── NotFoundError           (LookupError)
    │   └── KeyNotFoundError    (KeyError)         raised by the client's ``db[key]`` only
    ├── AlreadyExistsError
    ├── FailedPreconditionError
    ├── ConflictError                              a transaction lost every retry
    ├── ResourceExhaustedError
    ├── DeadlineExceededError   (TimeoutError)
    ├── UnavailableError        (ConnectionError)  try again; ``retry_after_ms`` says when, if known
    │   └── OutcomeUnknownError                    the write may or may not have happened
    ├── CancelledError
    ├── UnimplementedError      (NotImplementedError)
    ├── DataLossError                              stored bytes are damaged
    └── InternalError                              our mistake; ``metadata["request_id"]`` is in the log

Every error carries a :class:`Reason`. A reason fixes the gRPC status code, whether a retry can help, and the class.
``rpcstatus`` turns errors into gRPC statuses and back; ``docs/errors.md`` is generated from this table.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Code(enum.IntEnum):
    """gRPC status codes by number, so that this module needs no gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class PrefixdbError(Exception):
    """Base of every error prefixdb raises.

    Args:
        reason: what went wrong, from the one enum.
        message: one sentence for a person: what happened and what to do. Never holds a key, value, token or the name
            of a namespace the caller does not own.
        metadata: machine-readable facts (limit, size, field); same rule for secrets.
        retry_after_ms: when a retry is worth trying; only for reasons whose ``retryable`` is true.
    """

    def __init__(
        self,
        reason: Reason,
        message: str | None = None,
        *,
        metadata: dict[str, str] | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        self.reason = reason
        self.message = message if message is not None else reason.value.summary
        self.metadata = dict(metadata or {})
        self.retry_after_ms = retry_after_ms
        super().__init__(self.message)

    @property
    def code(self) -> Code:
        """The gRPC status code this error travels as."""
        return self.reason.value.code

    def __str__(self) -> str:
        return self.message


class InvalidArgumentError(PrefixdbError, ValueError):
    """The request cannot be right whatever the state of the server; nothing was done."""


class UnauthenticatedError(PrefixdbError, PermissionError):
    """The caller did not prove who it is."""


class PermissionDeniedError(PrefixdbError, PermissionError):
    """The caller is known and may not do this."""


class NamespaceSuspendedError(PermissionDeniedError):
    """The caller's namespace is suspended."""


class NamespaceBannedError(PermissionDeniedError):
    """The caller's namespace was dropped."""


class NotFoundError(PrefixdbError, LookupError):
    """The named thing does not exist, or the caller may not know whether it does."""


class KeyNotFoundError(NotFoundError, KeyError):
    """``db[key]`` found no such key."""


class AlreadyExistsError(PrefixdbError):
    """The name or number is taken."""


class FailedPreconditionError(PrefixdbError):
    """The state of the target does not allow this act; see the message for what would."""


class ConflictError(PrefixdbError):
    """A transaction met concurrent writers in every one of its attempts; nothing of it was applied."""


class ResourceExhaustedError(PrefixdbError):
    """A limit or quota is reached."""


class DeadlineExceededError(PrefixdbError, TimeoutError):
    """The deadline passed. A write may still have been applied."""


class UnavailableError(PrefixdbError, ConnectionError):
    """The server cannot answer now. The request was not applied."""


class OutcomeUnknownError(UnavailableError):
    """A write failed in a way that leaves open whether it was applied; read before writing again."""


class CancelledError(PrefixdbError):
    """The call was cancelled by its caller."""


class UnimplementedError(PrefixdbError, NotImplementedError):
    """The server does not know this method."""


class DataLossError(PrefixdbError):
    """Stored bytes are damaged or missing; the answer would have been incomplete."""


class InternalError(PrefixdbError):
    """A mistake of prefixdb. ``metadata["request_id"]`` names the line in the server's log."""


@dataclass(frozen=True, slots=True)
class ReasonFacts:
    """What a reason fixes: wire number, status code, retryability, exception class and a default sentence."""

    number: int
    code: Code
    retryable: bool
    error: type[PrefixdbError]
    summary: str


_BAD = (Code.INVALID_ARGUMENT, False, InvalidArgumentError)
_UNAUTH = (Code.UNAUTHENTICATED, False, UnauthenticatedError)
_DENIED = (Code.PERMISSION_DENIED, False, PermissionDeniedError)
_MISSING = (Code.NOT_FOUND, False, NotFoundError)
_EXISTS = (Code.ALREADY_EXISTS, False, AlreadyExistsError)
_STATE = (Code.FAILED_PRECONDITION, False, FailedPreconditionError)
_FULL = (Code.RESOURCE_EXHAUSTED, False, ResourceExhaustedError)
_BUSY = (Code.RESOURCE_EXHAUSTED, True, ResourceExhaustedError)
_LATER = (Code.UNAVAILABLE, True, UnavailableError)


class Reason(enum.Enum):
    """Why a call was refused or failed. Names and numbers equal ``prefixdb.v1.Reason`` and never change meaning."""

    KEY_EMPTY = ReasonFacts(1, *_BAD, "A key needs at least one byte.")
    KEY_TOO_LARGE = ReasonFacts(2, *_BAD, "The key is longer than the limit.")
    VALUE_TOO_LARGE = ReasonFacts(3, *_BAD, "The value is larger than the limit.")
    BATCH_TOO_LARGE = ReasonFacts(4, *_BAD, "The request or its answer holds more than one call may carry; split it.")
    BAD_RANGE = ReasonFacts(5, *_BAD, "The range is inverted or malformed; its start must not lie after its end.")
    BAD_NAME = ReasonFacts(6, *_BAD, "The name is empty, too long or has a character that is not allowed.")
    BAD_FIELD = ReasonFacts(7, *_BAD, "A field of the request has a value that is not allowed.")
    ARCHIVE_INVALID = ReasonFacts(8, *_BAD, "The archive is damaged, cut short or not an archive; nothing was changed.")

    TOKEN_MISSING = ReasonFacts(20, *_UNAUTH, "The call needs exactly one authorization entry: 'Bearer TOKEN'.")
    TOKEN_INVALID = ReasonFacts(21, *_UNAUTH, "The token is not valid here.")
    TOKEN_EXPIRED = ReasonFacts(22, *_UNAUTH, "The token has expired; get a new one.")
    TOKEN_REVOKED = ReasonFacts(23, *_UNAUTH, "The token was revoked; get a new one.")
    BAD_CREDENTIALS = ReasonFacts(24, *_UNAUTH, "The user name or the password is wrong.")

    NOT_PERMITTED = ReasonFacts(40, *_DENIED, "The token does not permit this.")
    NAMESPACE_SUSPENDED = ReasonFacts(
        41,
        Code.PERMISSION_DENIED,
        False,
        NamespaceSuspendedError,
        "The namespace is suspended; a guardian can resume it.",
    )
    NAMESPACE_BANNED = ReasonFacts(
        42, Code.PERMISSION_DENIED, False, NamespaceBannedError, "The namespace was dropped."
    )

    NAMESPACE_NOT_FOUND = ReasonFacts(60, *_MISSING, "There is no such namespace.")
    TOKEN_NOT_FOUND = ReasonFacts(61, *_MISSING, "There is no such service token.")
    REPORT_NOT_FOUND = ReasonFacts(62, *_MISSING, "There is no reclaim report: the namespace was never banned.")
    KEY_NOT_FOUND = ReasonFacts(63, Code.NOT_FOUND, False, KeyNotFoundError, "There is no such key.")
    GROUP_NOT_FOUND = ReasonFacts(64, *_MISSING, "There is no such group in the namespace.")
    MEMBER_NOT_FOUND = ReasonFacts(65, *_MISSING, "There is no such member in the namespace.")
    GRANT_NOT_FOUND = ReasonFacts(66, *_MISSING, "The member has neither a grant nor a denial for that.")
    SIGNING_KEY_NOT_FOUND = ReasonFacts(67, *_MISSING, "There is no signing key of that id.")

    NAMESPACE_EXISTS = ReasonFacts(80, *_EXISTS, "A namespace of this name or number exists.")
    MEMBER_EXISTS = ReasonFacts(81, *_EXISTS, "A member of this name exists in the namespace.")
    GROUP_EXISTS = ReasonFacts(82, *_EXISTS, "A group of this name exists in the namespace.")
    IMPORT_CONFLICT = ReasonFacts(83, *_EXISTS, "A key of the import exists already; nothing was imported.")

    NAMESPACE_NOT_EMPTY = ReasonFacts(100, *_STATE, "The number still has rows or an unreclaimed ban; choose another.")
    RECLAIM_STARTED = ReasonFacts(101, *_STATE, "Reclaiming has begun; the namespace cannot come back.")
    READ_ONLY = ReasonFacts(102, *_STATE, "The namespace is read-only: deletes are accepted, other writes are not.")
    NAMESPACE_STATE = ReasonFacts(103, *_STATE, "The namespace is not in a state that allows this.")
    NAMESPACE_PROTECTED = ReasonFacts(104, *_STATE, "Namespace 0 can be neither banned, suspended nor renamed.")
    LAST_GUARDIAN = ReasonFacts(105, *_STATE, "It is the last guardian who can log in; make another one first.")
    GROUP_BUILT_IN = ReasonFacts(106, *_STATE, "The groups guardians, writers and readers stay as they are.")
    MAIN_NAMESPACE_GONE = ReasonFacts(107, *_STATE, "The main namespace cannot be used; log in to another one.")
    SIGNING_KEY_IN_USE = ReasonFacts(108, *_STATE, "The key signs new tokens; rotate first, then remove it.")
    BACKUP_RUNNING = ReasonFacts(109, *_STATE, "A backup is being taken already; wait for it to end.")
    DIRECTORY_NOT_EMPTY = ReasonFacts(110, *_STATE, "The target exists and is not empty; choose another.")

    RATE_LIMITED = ReasonFacts(120, *_BUSY, "Too many requests; slow down.")
    QUOTA_EXCEEDED = ReasonFacts(121, *_FULL, "The namespace's quota is used up.")
    DISK_FULL = ReasonFacts(122, *_BUSY, "The server's disk is full; writes resume when space is back.")
    TOO_MANY_STREAMS = ReasonFacts(123, *_BUSY, "Too many open streams; close some.")
    REQUEST_TOO_LARGE = ReasonFacts(124, *_FULL, "The message is larger than the server accepts.")

    STARTING = ReasonFacts(140, *_LATER, "The server is starting.")
    DRAINING = ReasonFacts(141, *_LATER, "The server is shutting down.")
    WRITE_STALL = ReasonFacts(142, *_LATER, "The store is catching up with its writes; the write was not applied.")
    READ_ONLY_STORE = ReasonFacts(143, *_LATER, "The store accepts no writes after a disk error; reads go on.")
    AUDIT_UNAVAILABLE = ReasonFacts(144, *_LATER, "The audit file cannot be written; administrative acts are refused.")
    UNREACHABLE = ReasonFacts(145, *_LATER, "The server cannot be reached.")
    OUTCOME_UNKNOWN = ReasonFacts(
        146,
        Code.UNAVAILABLE,
        False,
        OutcomeUnknownError,
        "The write failed and may or may not have been applied.",
    )

    CORRUPTION = ReasonFacts(160, Code.DATA_LOSS, False, DataLossError, "Stored data is damaged.")
    FORMAT_TOO_NEW = ReasonFacts(161, *_STATE, "The data directory was written by a newer prefixdb.")
    DIRECTORY_LOCKED = ReasonFacts(162, *_STATE, "Another process has the data directory open.")

    CONFLICT = ReasonFacts(180, Code.ABORTED, True, ConflictError, "Concurrent writers won every attempt.")
    DEADLINE = ReasonFacts(181, Code.DEADLINE_EXCEEDED, True, DeadlineExceededError, "The deadline passed.")
    CANCELLED = ReasonFacts(182, Code.CANCELLED, False, CancelledError, "The call was cancelled.")
    METHOD_UNKNOWN = ReasonFacts(183, Code.UNIMPLEMENTED, False, UnimplementedError, "The server has no such method.")
    INTERNAL = ReasonFacts(184, Code.INTERNAL, False, InternalError, "Internal error; the request id is in the log.")


def error(
    reason: Reason,
    message: str | None = None,
    *,
    metadata: dict[str, str] | None = None,
    retry_after_ms: int | None = None,
) -> PrefixdbError:
    """Return the exception of the class that ``reason`` fixes."""
    return reason.value.error(reason, message, metadata=metadata, retry_after_ms=retry_after_ms)


def bad_field(field: str, what: str) -> PrefixdbError:
    """Return BAD_FIELD that names the field; ``what`` is the rest of its sentence, for example "must be true."."""
    return error(Reason.BAD_FIELD, f"{field} {what}", metadata={"field": field})
