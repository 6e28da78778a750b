import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from prefixdb.v1 import namespaces_pb2 as _namespaces_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("version", "store", "engine", "durability", "writable", "last_version", "disk_bytes", "memory_bytes", "rows_estimate", "started_at", "uptime", "namespaces_live", "namespaces_banned", "namespaces_reclaimed", "streams_open", "sessions_cached", "data_dir", "store_facts", "alarms", "front")
    class StoreFactsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    WRITABLE_FIELD_NUMBER: _ClassVar[int]
    LAST_VERSION_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROWS_ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    UPTIME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_LIVE_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_BANNED_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_RECLAIMED_FIELD_NUMBER: _ClassVar[int]
    STREAMS_OPEN_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_CACHED_FIELD_NUMBER: _ClassVar[int]
    DATA_DIR_FIELD_NUMBER: _ClassVar[int]
    STORE_FACTS_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    FRONT_FIELD_NUMBER: _ClassVar[int]
    version: str
    store: str
    engine: str
    durability: str
    writable: bool
    last_version: int
    disk_bytes: int
    memory_bytes: int
    rows_estimate: int
    started_at: _timestamp_pb2.Timestamp
    uptime: _duration_pb2.Duration
    namespaces_live: int
    namespaces_banned: int
    namespaces_reclaimed: int
    streams_open: int
    sessions_cached: int
    data_dir: str
    store_facts: _containers.ScalarMap[str, str]
    alarms: _containers.RepeatedScalarFieldContainer[str]
    front: str
    def __init__(self, version: _Optional[str] = ..., store: _Optional[str] = ..., engine: _Optional[str] = ..., durability: _Optional[str] = ..., writable: bool = ..., last_version: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., rows_estimate: _Optional[int] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., uptime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., namespaces_live: _Optional[int] = ..., namespaces_banned: _Optional[int] = ..., namespaces_reclaimed: _Optional[int] = ..., streams_open: _Optional[int] = ..., sessions_cached: _Optional[int] = ..., data_dir: _Optional[str] = ..., store_facts: _Optional[_Mapping[str, str]] = ..., alarms: _Optional[_Iterable[str]] = ..., front: _Optional[str] = ...) -> None: ...

class CompactRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: _namespaces_pb2.NamespaceRef
    def __init__(self, namespace: _Optional[_Union[_namespaces_pb2.NamespaceRef, _Mapping]] = ...) -> None: ...

class CompactResponse(_message.Message):
    __slots__ = ("disk_bytes_before", "disk_bytes_after")
    DISK_BYTES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_AFTER_FIELD_NUMBER: _ClassVar[int]
    disk_bytes_before: int
    disk_bytes_after: int
    def __init__(self, disk_bytes_before: _Optional[int] = ..., disk_bytes_after: _Optional[int] = ...) -> None: ...

class ReadAuditRequest(_message.Message):
    __slots__ = ("newest",)
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    newest: int
    def __init__(self, newest: _Optional[int] = ...) -> None: ...

class ReadAuditResponse(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, lines: _Optional[_Iterable[str]] = ...) -> None: ...
