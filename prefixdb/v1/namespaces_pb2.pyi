import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NamespaceState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NAMESPACE_STATE_UNSPECIFIED: _ClassVar[NamespaceState]
    NAMESPACE_STATE_ACTIVE: _ClassVar[NamespaceState]
    NAMESPACE_STATE_READ_ONLY: _ClassVar[NamespaceState]
    NAMESPACE_STATE_SUSPENDED: _ClassVar[NamespaceState]
    NAMESPACE_STATE_BANNED: _ClassVar[NamespaceState]
    NAMESPACE_STATE_RECLAIMED: _ClassVar[NamespaceState]

class ReclaimPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECLAIM_PHASE_UNSPECIFIED: _ClassVar[ReclaimPhase]
    RECLAIM_PHASE_GRACE: _ClassVar[ReclaimPhase]
    RECLAIM_PHASE_PENDING: _ClassVar[ReclaimPhase]
    RECLAIM_PHASE_RECLAIMING: _ClassVar[ReclaimPhase]
    RECLAIM_PHASE_PROVING: _ClassVar[ReclaimPhase]
    RECLAIM_PHASE_DONE: _ClassVar[ReclaimPhase]
NAMESPACE_STATE_UNSPECIFIED: NamespaceState
NAMESPACE_STATE_ACTIVE: NamespaceState
NAMESPACE_STATE_READ_ONLY: NamespaceState
NAMESPACE_STATE_SUSPENDED: NamespaceState
NAMESPACE_STATE_BANNED: NamespaceState
NAMESPACE_STATE_RECLAIMED: NamespaceState
RECLAIM_PHASE_UNSPECIFIED: ReclaimPhase
RECLAIM_PHASE_GRACE: ReclaimPhase
RECLAIM_PHASE_PENDING: ReclaimPhase
RECLAIM_PHASE_RECLAIMING: ReclaimPhase
RECLAIM_PHASE_PROVING: ReclaimPhase
RECLAIM_PHASE_DONE: ReclaimPhase

class NamespaceRef(_message.Message):
    __slots__ = ("id", "name")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class Namespace(_message.Message):
    __slots__ = ("id", "name", "state", "incarnation", "labels", "created_at", "updated_at", "state_reason", "banned_at", "reclaim_after", "approximate_bytes", "approximate_rows")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    STATE_REASON_FIELD_NUMBER: _ClassVar[int]
    BANNED_AT_FIELD_NUMBER: _ClassVar[int]
    RECLAIM_AFTER_FIELD_NUMBER: _ClassVar[int]
    APPROXIMATE_BYTES_FIELD_NUMBER: _ClassVar[int]
    APPROXIMATE_ROWS_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    state: NamespaceState
    incarnation: int
    labels: _containers.ScalarMap[str, str]
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    state_reason: str
    banned_at: _timestamp_pb2.Timestamp
    reclaim_after: _timestamp_pb2.Timestamp
    approximate_bytes: int
    approximate_rows: int
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., state: _Optional[_Union[NamespaceState, str]] = ..., incarnation: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state_reason: _Optional[str] = ..., banned_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reclaim_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., approximate_bytes: _Optional[int] = ..., approximate_rows: _Optional[int] = ...) -> None: ...

class CreateNamespaceRequest(_message.Message):
    __slots__ = ("name", "id", "labels", "guardian_token_ttl", "guardian")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    GUARDIAN_TOKEN_TTL_FIELD_NUMBER: _ClassVar[int]
    GUARDIAN_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: int
    labels: _containers.ScalarMap[str, str]
    guardian_token_ttl: _duration_pb2.Duration
    guardian: FirstGuardian
    def __init__(self, name: _Optional[str] = ..., id: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., guardian_token_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., guardian: _Optional[_Union[FirstGuardian, _Mapping]] = ...) -> None: ...

class FirstGuardian(_message.Message):
    __slots__ = ("name", "password")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    name: str
    password: str
    def __init__(self, name: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class CreateNamespaceResponse(_message.Message):
    __slots__ = ("namespace", "guardian_token")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    GUARDIAN_TOKEN_FIELD_NUMBER: _ClassVar[int]
    namespace: Namespace
    guardian_token: str
    def __init__(self, namespace: _Optional[_Union[Namespace, _Mapping]] = ..., guardian_token: _Optional[str] = ...) -> None: ...

class GetNamespaceRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: NamespaceRef
    def __init__(self, namespace: _Optional[_Union[NamespaceRef, _Mapping]] = ...) -> None: ...

class GetNamespaceResponse(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: Namespace
    def __init__(self, namespace: _Optional[_Union[Namespace, _Mapping]] = ...) -> None: ...

class ListNamespacesRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "include_dropped")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_DROPPED_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    include_dropped: bool
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., include_dropped: bool = ...) -> None: ...

class ListNamespacesResponse(_message.Message):
    __slots__ = ("namespaces", "next_page_token")
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    namespaces: _containers.RepeatedCompositeFieldContainer[Namespace]
    next_page_token: str
    def __init__(self, namespaces: _Optional[_Iterable[_Union[Namespace, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateNamespaceRequest(_message.Message):
    __slots__ = ("namespace", "name", "labels", "update_mask")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    namespace: NamespaceRef
    name: str
    labels: _containers.ScalarMap[str, str]
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, namespace: _Optional[_Union[NamespaceRef, _Mapping]] = ..., name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateNamespaceResponse(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: Namespace
    def __init__(self, namespace: _Optional[_Union[Namespace, _Mapping]] = ...) -> None: ...

class SuspendNamespaceRequest(_message.Message):
    __slots__ = ("namespace", "state", "reason")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    namespace: NamespaceRef
    state: NamespaceState
    reason: str
    def __init__(self, namespace: _Optional[_Union[NamespaceRef, _Mapping]] = ..., state: _Optional[_Union[NamespaceState, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class SuspendNamespaceResponse(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: Namespace
    def __init__(self, namespace: _Optional[_Union[Namespace, _Mapping]] = ...) -> None: ...

class ResumeNamespaceRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: NamespaceRef
    def __init__(self, namespace: _Optional[_Union[NamespaceRef, _Mapping]] = ...) -> None: ...

class ResumeNamespaceResponse(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: Namespace
    def __init__(self, namespace: _Optional[_Union[Namespace, _Mapping]] = ...) -> None: ...

class BanNamespaceRequest(_message.Message):
    __slots__ = ("namespace", "reason", "grace")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    namespace: NamespaceRef
    reason: str
    grace: _duration_pb2.Duration
    def __init__(self, namespace: _Optional[_Union[NamespaceRef, _Mapping]] = ..., reason: _Optional[str] = ..., grace: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class BanNamespaceResponse(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: Namespace
    def __init__(self, namespace: _Optional[_Union[Namespace, _Mapping]] = ...) -> None: ...

class UnbanNamespaceRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: NamespaceRef
    def __init__(self, namespace: _Optional[_Union[NamespaceRef, _Mapping]] = ...) -> None: ...

class UnbanNamespaceResponse(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: Namespace
    def __init__(self, namespace: _Optional[_Union[Namespace, _Mapping]] = ...) -> None: ...

class Reclaim(_message.Message):
    __slots__ = ("namespace_id", "name", "incarnation", "phase", "banned_at", "banned_by", "reason", "reclaim_after", "started_at", "finished_at", "bytes_total", "bytes_done", "bytes_freed", "rows_dropped", "proof_rows_found", "proof_bytes_found")
    NAMESPACE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    BANNED_AT_FIELD_NUMBER: _ClassVar[int]
    BANNED_BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RECLAIM_AFTER_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FREED_FIELD_NUMBER: _ClassVar[int]
    ROWS_DROPPED_FIELD_NUMBER: _ClassVar[int]
    PROOF_ROWS_FOUND_FIELD_NUMBER: _ClassVar[int]
    PROOF_BYTES_FOUND_FIELD_NUMBER: _ClassVar[int]
    namespace_id: int
    name: str
    incarnation: int
    phase: ReclaimPhase
    banned_at: _timestamp_pb2.Timestamp
    banned_by: str
    reason: str
    reclaim_after: _timestamp_pb2.Timestamp
    started_at: _timestamp_pb2.Timestamp
    finished_at: _timestamp_pb2.Timestamp
    bytes_total: int
    bytes_done: int
    bytes_freed: int
    rows_dropped: int
    proof_rows_found: int
    proof_bytes_found: int
    def __init__(self, namespace_id: _Optional[int] = ..., name: _Optional[str] = ..., incarnation: _Optional[int] = ..., phase: _Optional[_Union[ReclaimPhase, str]] = ..., banned_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., banned_by: _Optional[str] = ..., reason: _Optional[str] = ..., reclaim_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finished_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., bytes_total: _Optional[int] = ..., bytes_done: _Optional[int] = ..., bytes_freed: _Optional[int] = ..., rows_dropped: _Optional[int] = ..., proof_rows_found: _Optional[int] = ..., proof_bytes_found: _Optional[int] = ...) -> None: ...

class ReclaimReportRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: NamespaceRef
    def __init__(self, namespace: _Optional[_Union[NamespaceRef, _Mapping]] = ...) -> None: ...

class ReclaimReportResponse(_message.Message):
    __slots__ = ("reclaim",)
    RECLAIM_FIELD_NUMBER: _ClassVar[int]
    reclaim: Reclaim
    def __init__(self, reclaim: _Optional[_Union[Reclaim, _Mapping]] = ...) -> None: ...

class WatchReclaimRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: NamespaceRef
    def __init__(self, namespace: _Optional[_Union[NamespaceRef, _Mapping]] = ...) -> None: ...

class WatchReclaimResponse(_message.Message):
    __slots__ = ("reclaim",)
    RECLAIM_FIELD_NUMBER: _ClassVar[int]
    reclaim: Reclaim
    def __init__(self, reclaim: _Optional[_Union[Reclaim, _Mapping]] = ...) -> None: ...
