from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_KEY_EMPTY: _ClassVar[Reason]
    REASON_KEY_TOO_LARGE: _ClassVar[Reason]
    REASON_VALUE_TOO_LARGE: _ClassVar[Reason]
    REASON_BATCH_TOO_LARGE: _ClassVar[Reason]
    REASON_BAD_RANGE: _ClassVar[Reason]
    REASON_BAD_NAME: _ClassVar[Reason]
    REASON_BAD_FIELD: _ClassVar[Reason]
    REASON_ARCHIVE_INVALID: _ClassVar[Reason]
    REASON_TOKEN_MISSING: _ClassVar[Reason]
    REASON_TOKEN_INVALID: _ClassVar[Reason]
    REASON_TOKEN_EXPIRED: _ClassVar[Reason]
    REASON_TOKEN_REVOKED: _ClassVar[Reason]
    REASON_BAD_CREDENTIALS: _ClassVar[Reason]
    REASON_NOT_PERMITTED: _ClassVar[Reason]
    REASON_NAMESPACE_SUSPENDED: _ClassVar[Reason]
    REASON_NAMESPACE_BANNED: _ClassVar[Reason]
    REASON_NAMESPACE_NOT_FOUND: _ClassVar[Reason]
    REASON_TOKEN_NOT_FOUND: _ClassVar[Reason]
    REASON_REPORT_NOT_FOUND: _ClassVar[Reason]
    REASON_KEY_NOT_FOUND: _ClassVar[Reason]
    REASON_GROUP_NOT_FOUND: _ClassVar[Reason]
    REASON_MEMBER_NOT_FOUND: _ClassVar[Reason]
    REASON_GRANT_NOT_FOUND: _ClassVar[Reason]
    REASON_SIGNING_KEY_NOT_FOUND: _ClassVar[Reason]
    REASON_NAMESPACE_EXISTS: _ClassVar[Reason]
    REASON_MEMBER_EXISTS: _ClassVar[Reason]
    REASON_GROUP_EXISTS: _ClassVar[Reason]
    REASON_IMPORT_CONFLICT: _ClassVar[Reason]
    REASON_NAMESPACE_NOT_EMPTY: _ClassVar[Reason]
    REASON_RECLAIM_STARTED: _ClassVar[Reason]
    REASON_READ_ONLY: _ClassVar[Reason]
    REASON_NAMESPACE_STATE: _ClassVar[Reason]
    REASON_NAMESPACE_PROTECTED: _ClassVar[Reason]
    REASON_LAST_GUARDIAN: _ClassVar[Reason]
    REASON_GROUP_BUILT_IN: _ClassVar[Reason]
    REASON_MAIN_NAMESPACE_GONE: _ClassVar[Reason]
    REASON_SIGNING_KEY_IN_USE: _ClassVar[Reason]
    REASON_BACKUP_RUNNING: _ClassVar[Reason]
    REASON_DIRECTORY_NOT_EMPTY: _ClassVar[Reason]
    REASON_RATE_LIMITED: _ClassVar[Reason]
    REASON_QUOTA_EXCEEDED: _ClassVar[Reason]
    REASON_DISK_FULL: _ClassVar[Reason]
    REASON_TOO_MANY_STREAMS: _ClassVar[Reason]
    REASON_REQUEST_TOO_LARGE: _ClassVar[Reason]
    REASON_STARTING: _ClassVar[Reason]
    REASON_DRAINING: _ClassVar[Reason]
    REASON_WRITE_STALL: _ClassVar[Reason]
    REASON_READ_ONLY_STORE: _ClassVar[Reason]
    REASON_AUDIT_UNAVAILABLE: _ClassVar[Reason]
    REASON_UNREACHABLE: _ClassVar[Reason]
    REASON_OUTCOME_UNKNOWN: _ClassVar[Reason]
    REASON_CORRUPTION: _ClassVar[Reason]
    REASON_FORMAT_TOO_NEW: _ClassVar[Reason]
    REASON_DIRECTORY_LOCKED: _ClassVar[Reason]
    REASON_CONFLICT: _ClassVar[Reason]
    REASON_DEADLINE: _ClassVar[Reason]
    REASON_CANCELLED: _ClassVar[Reason]
    REASON_METHOD_UNKNOWN: _ClassVar[Reason]
    REASON_INTERNAL: _ClassVar[Reason]
REASON_UNSPECIFIED: Reason
REASON_KEY_EMPTY: Reason
REASON_KEY_TOO_LARGE: Reason
REASON_VALUE_TOO_LARGE: Reason
REASON_BATCH_TOO_LARGE: Reason
REASON_BAD_RANGE: Reason
REASON_BAD_NAME: Reason
REASON_BAD_FIELD: Reason
REASON_ARCHIVE_INVALID: Reason
REASON_TOKEN_MISSING: Reason
REASON_TOKEN_INVALID: Reason
REASON_TOKEN_EXPIRED: Reason
REASON_TOKEN_REVOKED: Reason
REASON_BAD_CREDENTIALS: Reason
REASON_NOT_PERMITTED: Reason
REASON_NAMESPACE_SUSPENDED: Reason
REASON_NAMESPACE_BANNED: Reason
REASON_NAMESPACE_NOT_FOUND: Reason
REASON_TOKEN_NOT_FOUND: Reason
REASON_REPORT_NOT_FOUND: Reason
REASON_KEY_NOT_FOUND: Reason
REASON_GROUP_NOT_FOUND: Reason
REASON_MEMBER_NOT_FOUND: Reason
REASON_GRANT_NOT_FOUND: Reason
REASON_SIGNING_KEY_NOT_FOUND: Reason
REASON_NAMESPACE_EXISTS: Reason
REASON_MEMBER_EXISTS: Reason
REASON_GROUP_EXISTS: Reason
REASON_IMPORT_CONFLICT: Reason
REASON_NAMESPACE_NOT_EMPTY: Reason
REASON_RECLAIM_STARTED: Reason
REASON_READ_ONLY: Reason
REASON_NAMESPACE_STATE: Reason
REASON_NAMESPACE_PROTECTED: Reason
REASON_LAST_GUARDIAN: Reason
REASON_GROUP_BUILT_IN: Reason
REASON_MAIN_NAMESPACE_GONE: Reason
REASON_SIGNING_KEY_IN_USE: Reason
REASON_BACKUP_RUNNING: Reason
REASON_DIRECTORY_NOT_EMPTY: Reason
REASON_RATE_LIMITED: Reason
REASON_QUOTA_EXCEEDED: Reason
REASON_DISK_FULL: Reason
REASON_TOO_MANY_STREAMS: Reason
REASON_REQUEST_TOO_LARGE: Reason
REASON_STARTING: Reason
REASON_DRAINING: Reason
REASON_WRITE_STALL: Reason
REASON_READ_ONLY_STORE: Reason
REASON_AUDIT_UNAVAILABLE: Reason
REASON_UNREACHABLE: Reason
REASON_OUTCOME_UNKNOWN: Reason
REASON_CORRUPTION: Reason
REASON_FORMAT_TOO_NEW: Reason
REASON_DIRECTORY_LOCKED: Reason
REASON_CONFLICT: Reason
REASON_DEADLINE: Reason
REASON_CANCELLED: Reason
REASON_METHOD_UNKNOWN: Reason
REASON_INTERNAL: Reason

class Error(_message.Message):
    __slots__ = ("code", "reason", "message", "metadata", "retry_after_ms")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: Reason
    message: str
    metadata: _containers.ScalarMap[str, str]
    retry_after_ms: int
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[_Union[Reason, str]] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...
