from prefixdb.v1 import error_pb2 as _error_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetRequest(_message.Message):
    __slots__ = ("key", "database")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    database: int
    def __init__(self, key: _Optional[bytes] = ..., database: _Optional[int] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("found", "value", "version", "ttl_ms")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    found: bool
    value: bytes
    version: int
    ttl_ms: int
    def __init__(self, found: bool = ..., value: _Optional[bytes] = ..., version: _Optional[int] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class BatchGetRequest(_message.Message):
    __slots__ = ("keys", "database")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    database: int
    def __init__(self, keys: _Optional[_Iterable[bytes]] = ..., database: _Optional[int] = ...) -> None: ...

class BatchGetResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[GetResponse]
    def __init__(self, results: _Optional[_Iterable[_Union[GetResponse, _Mapping]]] = ...) -> None: ...

class Test(_message.Message):
    __slots__ = ("version", "absent", "exists", "value")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    EXISTS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    version: int
    absent: bool
    exists: bool
    value: bytes
    def __init__(self, version: _Optional[int] = ..., absent: bool = ..., exists: bool = ..., value: _Optional[bytes] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("key", "database", "test")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    TEST_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    database: int
    test: Test
    def __init__(self, key: _Optional[bytes] = ..., database: _Optional[int] = ..., test: _Optional[_Union[Test, _Mapping]] = ...) -> None: ...

class PutRequest(_message.Message):
    __slots__ = ("key", "value", "database", "ttl_ms", "condition")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    database: int
    ttl_ms: int
    condition: Test
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., database: _Optional[int] = ..., ttl_ms: _Optional[int] = ..., condition: _Optional[_Union[Test, _Mapping]] = ...) -> None: ...

class PutResponse(_message.Message):
    __slots__ = ("applied", "version", "current_version")
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CURRENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    applied: bool
    version: int
    current_version: int
    def __init__(self, applied: bool = ..., version: _Optional[int] = ..., current_version: _Optional[int] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("key", "database", "condition")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    database: int
    condition: Test
    def __init__(self, key: _Optional[bytes] = ..., database: _Optional[int] = ..., condition: _Optional[_Union[Test, _Mapping]] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ("applied", "version", "current_version")
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CURRENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    applied: bool
    version: int
    current_version: int
    def __init__(self, applied: bool = ..., version: _Optional[int] = ..., current_version: _Optional[int] = ...) -> None: ...

class KeyRange(_message.Message):
    __slots__ = ("prefix", "start", "end")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    prefix: bytes
    start: bytes
    end: bytes
    def __init__(self, prefix: _Optional[bytes] = ..., start: _Optional[bytes] = ..., end: _Optional[bytes] = ...) -> None: ...

class Mutation(_message.Message):
    __slots__ = ("put", "delete", "delete_range")
    class Put(_message.Message):
        __slots__ = ("key", "value", "database", "ttl_ms")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        DATABASE_FIELD_NUMBER: _ClassVar[int]
        TTL_MS_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        value: bytes
        database: int
        ttl_ms: int
        def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., database: _Optional[int] = ..., ttl_ms: _Optional[int] = ...) -> None: ...
    class Delete(_message.Message):
        __slots__ = ("key", "database")
        KEY_FIELD_NUMBER: _ClassVar[int]
        DATABASE_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        database: int
        def __init__(self, key: _Optional[bytes] = ..., database: _Optional[int] = ...) -> None: ...
    class DeleteRange(_message.Message):
        __slots__ = ("range", "database")
        RANGE_FIELD_NUMBER: _ClassVar[int]
        DATABASE_FIELD_NUMBER: _ClassVar[int]
        range: KeyRange
        database: int
        def __init__(self, range: _Optional[_Union[KeyRange, _Mapping]] = ..., database: _Optional[int] = ...) -> None: ...
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    DELETE_RANGE_FIELD_NUMBER: _ClassVar[int]
    put: Mutation.Put
    delete: Mutation.Delete
    delete_range: Mutation.DeleteRange
    def __init__(self, put: _Optional[_Union[Mutation.Put, _Mapping]] = ..., delete: _Optional[_Union[Mutation.Delete, _Mapping]] = ..., delete_range: _Optional[_Union[Mutation.DeleteRange, _Mapping]] = ...) -> None: ...

class WriteRequest(_message.Message):
    __slots__ = ("mutations", "conditions")
    MUTATIONS_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    mutations: _containers.RepeatedCompositeFieldContainer[Mutation]
    conditions: _containers.RepeatedCompositeFieldContainer[Condition]
    def __init__(self, mutations: _Optional[_Iterable[_Union[Mutation, _Mapping]]] = ..., conditions: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ...) -> None: ...

class WriteResponse(_message.Message):
    __slots__ = ("applied", "version", "failed_condition", "current_version")
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FAILED_CONDITION_FIELD_NUMBER: _ClassVar[int]
    CURRENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    applied: bool
    version: int
    failed_condition: int
    current_version: int
    def __init__(self, applied: bool = ..., version: _Optional[int] = ..., failed_condition: _Optional[int] = ..., current_version: _Optional[int] = ...) -> None: ...

class ScanRequest(_message.Message):
    __slots__ = ("range", "database", "reverse", "limit", "keys_only", "resume_after")
    RANGE_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    REVERSE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    KEYS_ONLY_FIELD_NUMBER: _ClassVar[int]
    RESUME_AFTER_FIELD_NUMBER: _ClassVar[int]
    range: KeyRange
    database: int
    reverse: bool
    limit: int
    keys_only: bool
    resume_after: bytes
    def __init__(self, range: _Optional[_Union[KeyRange, _Mapping]] = ..., database: _Optional[int] = ..., reverse: bool = ..., limit: _Optional[int] = ..., keys_only: bool = ..., resume_after: _Optional[bytes] = ...) -> None: ...

class Row(_message.Message):
    __slots__ = ("key", "value", "version", "ttl_ms")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    version: int
    ttl_ms: int
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., version: _Optional[int] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class ScanResponse(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[Row]
    def __init__(self, rows: _Optional[_Iterable[_Union[Row, _Mapping]]] = ...) -> None: ...

class CountRequest(_message.Message):
    __slots__ = ("range", "database")
    RANGE_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    range: KeyRange
    database: int
    def __init__(self, range: _Optional[_Union[KeyRange, _Mapping]] = ..., database: _Optional[int] = ...) -> None: ...

class CountResponse(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("get", "batch_get", "put", "delete", "write")
    GET_FIELD_NUMBER: _ClassVar[int]
    BATCH_GET_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    WRITE_FIELD_NUMBER: _ClassVar[int]
    get: GetRequest
    batch_get: BatchGetRequest
    put: PutRequest
    delete: DeleteRequest
    write: WriteRequest
    def __init__(self, get: _Optional[_Union[GetRequest, _Mapping]] = ..., batch_get: _Optional[_Union[BatchGetRequest, _Mapping]] = ..., put: _Optional[_Union[PutRequest, _Mapping]] = ..., delete: _Optional[_Union[DeleteRequest, _Mapping]] = ..., write: _Optional[_Union[WriteRequest, _Mapping]] = ...) -> None: ...

class OperationResult(_message.Message):
    __slots__ = ("get", "batch_get", "put", "delete", "write", "error")
    GET_FIELD_NUMBER: _ClassVar[int]
    BATCH_GET_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    WRITE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    get: GetResponse
    batch_get: BatchGetResponse
    put: PutResponse
    delete: DeleteResponse
    write: WriteResponse
    error: _error_pb2.Error
    def __init__(self, get: _Optional[_Union[GetResponse, _Mapping]] = ..., batch_get: _Optional[_Union[BatchGetResponse, _Mapping]] = ..., put: _Optional[_Union[PutResponse, _Mapping]] = ..., delete: _Optional[_Union[DeleteResponse, _Mapping]] = ..., write: _Optional[_Union[WriteResponse, _Mapping]] = ..., error: _Optional[_Union[_error_pb2.Error, _Mapping]] = ...) -> None: ...

class PipelineRequest(_message.Message):
    __slots__ = ("id", "operations")
    ID_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    id: int
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    def __init__(self, id: _Optional[int] = ..., operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ...) -> None: ...

class PipelineResponse(_message.Message):
    __slots__ = ("id", "results")
    ID_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    id: int
    results: _containers.RepeatedCompositeFieldContainer[OperationResult]
    def __init__(self, id: _Optional[int] = ..., results: _Optional[_Iterable[_Union[OperationResult, _Mapping]]] = ...) -> None: ...
