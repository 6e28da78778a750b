import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from prefixdb.v1 import namespaces_pb2 as _namespaces_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConflictPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONFLICT_POLICY_UNSPECIFIED: _ClassVar[ConflictPolicy]
    CONFLICT_POLICY_FAIL: _ClassVar[ConflictPolicy]
    CONFLICT_POLICY_SKIP: _ClassVar[ConflictPolicy]
    CONFLICT_POLICY_OVERWRITE: _ClassVar[ConflictPolicy]

class TransferPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRANSFER_PHASE_UNSPECIFIED: _ClassVar[TransferPhase]
    TRANSFER_PHASE_READY: _ClassVar[TransferPhase]
    TRANSFER_PHASE_RECEIVING: _ClassVar[TransferPhase]
    TRANSFER_PHASE_CHECKING: _ClassVar[TransferPhase]
    TRANSFER_PHASE_APPLYING: _ClassVar[TransferPhase]
    TRANSFER_PHASE_DONE: _ClassVar[TransferPhase]
CONFLICT_POLICY_UNSPECIFIED: ConflictPolicy
CONFLICT_POLICY_FAIL: ConflictPolicy
CONFLICT_POLICY_SKIP: ConflictPolicy
CONFLICT_POLICY_OVERWRITE: ConflictPolicy
TRANSFER_PHASE_UNSPECIFIED: TransferPhase
TRANSFER_PHASE_READY: TransferPhase
TRANSFER_PHASE_RECEIVING: TransferPhase
TRANSFER_PHASE_CHECKING: TransferPhase
TRANSFER_PHASE_APPLYING: TransferPhase
TRANSFER_PHASE_DONE: TransferPhase

class BackupRequest(_message.Message):
    __slots__ = ("begin", "wanted")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    begin: BackupBegin
    wanted: BackupWanted
    def __init__(self, begin: _Optional[_Union[BackupBegin, _Mapping]] = ..., wanted: _Optional[_Union[BackupWanted, _Mapping]] = ...) -> None: ...

class BackupBegin(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BackupWanted(_message.Message):
    __slots__ = ("files",)
    FILES_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, files: _Optional[_Iterable[int]] = ...) -> None: ...

class BackupResponse(_message.Message):
    __slots__ = ("hashing", "facts", "files", "chunk")
    HASHING_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    hashing: BackupHashing
    facts: BackupFacts
    files: BackupFiles
    chunk: BackupChunk
    def __init__(self, hashing: _Optional[_Union[BackupHashing, _Mapping]] = ..., facts: _Optional[_Union[BackupFacts, _Mapping]] = ..., files: _Optional[_Union[BackupFiles, _Mapping]] = ..., chunk: _Optional[_Union[BackupChunk, _Mapping]] = ...) -> None: ...

class BackupHashing(_message.Message):
    __slots__ = ("bytes_done", "bytes_total")
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    bytes_done: int
    bytes_total: int
    def __init__(self, bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ...) -> None: ...

class BackupFacts(_message.Message):
    __slots__ = ("taken_at", "server_version", "store", "engine", "last_version", "namespaces_live", "namespaces_banned", "store_id", "restored_from")
    TAKEN_AT_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    LAST_VERSION_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_LIVE_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_BANNED_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    RESTORED_FROM_FIELD_NUMBER: _ClassVar[int]
    taken_at: _timestamp_pb2.Timestamp
    server_version: str
    store: str
    engine: str
    last_version: int
    namespaces_live: int
    namespaces_banned: int
    store_id: str
    restored_from: str
    def __init__(self, taken_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., server_version: _Optional[str] = ..., store: _Optional[str] = ..., engine: _Optional[str] = ..., last_version: _Optional[int] = ..., namespaces_live: _Optional[int] = ..., namespaces_banned: _Optional[int] = ..., store_id: _Optional[str] = ..., restored_from: _Optional[str] = ...) -> None: ...

class BackupFiles(_message.Message):
    __slots__ = ("files", "last")
    FILES_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[BackupFile]
    last: bool
    def __init__(self, files: _Optional[_Iterable[_Union[BackupFile, _Mapping]]] = ..., last: bool = ...) -> None: ...

class BackupFile(_message.Message):
    __slots__ = ("path", "size", "sha256")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    path: str
    size: int
    sha256: bytes
    def __init__(self, path: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class BackupChunk(_message.Message):
    __slots__ = ("file", "data")
    FILE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    file: int
    data: bytes
    def __init__(self, file: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ListBansRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListBansResponse(_message.Message):
    __slots__ = ("bans",)
    BANS_FIELD_NUMBER: _ClassVar[int]
    bans: _containers.RepeatedCompositeFieldContainer[BannedIssue]
    def __init__(self, bans: _Optional[_Iterable[_Union[BannedIssue, _Mapping]]] = ...) -> None: ...

class BannedIssue(_message.Message):
    __slots__ = ("namespace_id", "incarnation", "name", "banned_at", "banned_by", "reason", "reclaim_after", "reclaimed")
    NAMESPACE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    BANNED_AT_FIELD_NUMBER: _ClassVar[int]
    BANNED_BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RECLAIM_AFTER_FIELD_NUMBER: _ClassVar[int]
    RECLAIMED_FIELD_NUMBER: _ClassVar[int]
    namespace_id: int
    incarnation: int
    name: str
    banned_at: _timestamp_pb2.Timestamp
    banned_by: str
    reason: str
    reclaim_after: _timestamp_pb2.Timestamp
    reclaimed: bool
    def __init__(self, namespace_id: _Optional[int] = ..., incarnation: _Optional[int] = ..., name: _Optional[str] = ..., banned_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., banned_by: _Optional[str] = ..., reason: _Optional[str] = ..., reclaim_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reclaimed: bool = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ("namespace", "database", "prefix", "members", "codec")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    namespace: _namespaces_pb2.NamespaceRef
    database: int
    prefix: bytes
    members: bool
    codec: str
    def __init__(self, namespace: _Optional[_Union[_namespaces_pb2.NamespaceRef, _Mapping]] = ..., database: _Optional[int] = ..., prefix: _Optional[bytes] = ..., members: bool = ..., codec: _Optional[str] = ...) -> None: ...

class ExportResponse(_message.Message):
    __slots__ = ("frame", "rows_done", "rows_estimate")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    ROWS_DONE_FIELD_NUMBER: _ClassVar[int]
    ROWS_ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    frame: bytes
    rows_done: int
    rows_estimate: int
    def __init__(self, frame: _Optional[bytes] = ..., rows_done: _Optional[int] = ..., rows_estimate: _Optional[int] = ...) -> None: ...

class ImportRequest(_message.Message):
    __slots__ = ("begin", "frame")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    begin: ImportBegin
    frame: bytes
    def __init__(self, begin: _Optional[_Union[ImportBegin, _Mapping]] = ..., frame: _Optional[bytes] = ...) -> None: ...

class ImportBegin(_message.Message):
    __slots__ = ("upload", "on_conflict", "dry_run", "keep_version_order")
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    ON_CONFLICT_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    KEEP_VERSION_ORDER_FIELD_NUMBER: _ClassVar[int]
    upload: str
    on_conflict: ConflictPolicy
    dry_run: bool
    keep_version_order: bool
    def __init__(self, upload: _Optional[str] = ..., on_conflict: _Optional[_Union[ConflictPolicy, str]] = ..., dry_run: bool = ..., keep_version_order: bool = ...) -> None: ...

class ImportResponse(_message.Message):
    __slots__ = ("phase", "frames_kept", "digest", "rows_received", "rows_done", "rows_inserted", "rows_replaced", "rows_skipped", "rows_expired", "way")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_KEPT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROWS_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    ROWS_DONE_FIELD_NUMBER: _ClassVar[int]
    ROWS_INSERTED_FIELD_NUMBER: _ClassVar[int]
    ROWS_REPLACED_FIELD_NUMBER: _ClassVar[int]
    ROWS_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    ROWS_EXPIRED_FIELD_NUMBER: _ClassVar[int]
    WAY_FIELD_NUMBER: _ClassVar[int]
    phase: TransferPhase
    frames_kept: int
    digest: bytes
    rows_received: int
    rows_done: int
    rows_inserted: int
    rows_replaced: int
    rows_skipped: int
    rows_expired: int
    way: str
    def __init__(self, phase: _Optional[_Union[TransferPhase, str]] = ..., frames_kept: _Optional[int] = ..., digest: _Optional[bytes] = ..., rows_received: _Optional[int] = ..., rows_done: _Optional[int] = ..., rows_inserted: _Optional[int] = ..., rows_replaced: _Optional[int] = ..., rows_skipped: _Optional[int] = ..., rows_expired: _Optional[int] = ..., way: _Optional[str] = ...) -> None: ...

class RestoreNamespaceRequest(_message.Message):
    __slots__ = ("begin", "frame")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    begin: RestoreNamespaceBegin
    frame: bytes
    def __init__(self, begin: _Optional[_Union[RestoreNamespaceBegin, _Mapping]] = ..., frame: _Optional[bytes] = ...) -> None: ...

class RestoreNamespaceBegin(_message.Message):
    __slots__ = ("name", "id", "members")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: int
    members: bool
    def __init__(self, name: _Optional[str] = ..., id: _Optional[int] = ..., members: bool = ...) -> None: ...

class RestoreNamespaceResponse(_message.Message):
    __slots__ = ("phase", "rows_received", "rows_done", "rows_expired", "members", "groups", "namespace")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ROWS_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    ROWS_DONE_FIELD_NUMBER: _ClassVar[int]
    ROWS_EXPIRED_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    phase: TransferPhase
    rows_received: int
    rows_done: int
    rows_expired: int
    members: int
    groups: int
    namespace: _namespaces_pb2.Namespace
    def __init__(self, phase: _Optional[_Union[TransferPhase, str]] = ..., rows_received: _Optional[int] = ..., rows_done: _Optional[int] = ..., rows_expired: _Optional[int] = ..., members: _Optional[int] = ..., groups: _Optional[int] = ..., namespace: _Optional[_Union[_namespaces_pb2.Namespace, _Mapping]] = ...) -> None: ...

class CloneNamespaceRequest(_message.Message):
    __slots__ = ("source", "name", "id", "members")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    source: _namespaces_pb2.NamespaceRef
    name: str
    id: int
    members: bool
    def __init__(self, source: _Optional[_Union[_namespaces_pb2.NamespaceRef, _Mapping]] = ..., name: _Optional[str] = ..., id: _Optional[int] = ..., members: bool = ...) -> None: ...

class CloneNamespaceResponse(_message.Message):
    __slots__ = ("phase", "rows_done", "rows_estimate", "members", "groups", "namespace")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ROWS_DONE_FIELD_NUMBER: _ClassVar[int]
    ROWS_ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    phase: TransferPhase
    rows_done: int
    rows_estimate: int
    members: int
    groups: int
    namespace: _namespaces_pb2.Namespace
    def __init__(self, phase: _Optional[_Union[TransferPhase, str]] = ..., rows_done: _Optional[int] = ..., rows_estimate: _Optional[int] = ..., members: _Optional[int] = ..., groups: _Optional[int] = ..., namespace: _Optional[_Union[_namespaces_pb2.Namespace, _Mapping]] = ...) -> None: ...
