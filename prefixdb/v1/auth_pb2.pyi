import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from prefixdb.v1 import namespaces_pb2 as _namespaces_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Guardian(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GUARDIAN_UNSPECIFIED: _ClassVar[Guardian]
    GUARDIAN_NAMESPACE: _ClassVar[Guardian]
    GUARDIAN_CLUSTER: _ClassVar[Guardian]

class Privilege(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIVILEGE_UNSPECIFIED: _ClassVar[Privilege]
    PRIVILEGE_NAMESPACES_USE: _ClassVar[Privilege]
    PRIVILEGE_NAMESPACES_EDIT: _ClassVar[Privilege]
    PRIVILEGE_AUDIT: _ClassVar[Privilege]
    PRIVILEGE_BACKUP: _ClassVar[Privilege]
GUARDIAN_UNSPECIFIED: Guardian
GUARDIAN_NAMESPACE: Guardian
GUARDIAN_CLUSTER: Guardian
PRIVILEGE_UNSPECIFIED: Privilege
PRIVILEGE_NAMESPACES_USE: Privilege
PRIVILEGE_NAMESPACES_EDIT: Privilege
PRIVILEGE_AUDIT: Privilege
PRIVILEGE_BACKUP: Privilege

class Tokens(_message.Message):
    __slots__ = ("access_token", "access_expires_at", "refresh_token", "refresh_expires_at", "namespace_id", "namespace_name")
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACCESS_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REFRESH_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_ID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_NAME_FIELD_NUMBER: _ClassVar[int]
    access_token: str
    access_expires_at: _timestamp_pb2.Timestamp
    refresh_token: str
    refresh_expires_at: _timestamp_pb2.Timestamp
    namespace_id: int
    namespace_name: str
    def __init__(self, access_token: _Optional[str] = ..., access_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., refresh_token: _Optional[str] = ..., refresh_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., namespace_id: _Optional[int] = ..., namespace_name: _Optional[str] = ...) -> None: ...

class LoginRequest(_message.Message):
    __slots__ = ("namespace", "user", "password", "into")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    INTO_FIELD_NUMBER: _ClassVar[int]
    namespace: _namespaces_pb2.NamespaceRef
    user: str
    password: str
    into: _namespaces_pb2.NamespaceRef
    def __init__(self, namespace: _Optional[_Union[_namespaces_pb2.NamespaceRef, _Mapping]] = ..., user: _Optional[str] = ..., password: _Optional[str] = ..., into: _Optional[_Union[_namespaces_pb2.NamespaceRef, _Mapping]] = ...) -> None: ...

class LoginResponse(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: Tokens
    def __init__(self, tokens: _Optional[_Union[Tokens, _Mapping]] = ...) -> None: ...

class RefreshRequest(_message.Message):
    __slots__ = ("refresh_token",)
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    refresh_token: str
    def __init__(self, refresh_token: _Optional[str] = ...) -> None: ...

class RefreshResponse(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: Tokens
    def __init__(self, tokens: _Optional[_Union[Tokens, _Mapping]] = ...) -> None: ...

class ExchangeRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: _namespaces_pb2.NamespaceRef
    def __init__(self, namespace: _Optional[_Union[_namespaces_pb2.NamespaceRef, _Mapping]] = ...) -> None: ...

class ExchangeResponse(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: Tokens
    def __init__(self, tokens: _Optional[_Union[Tokens, _Mapping]] = ...) -> None: ...

class LogoutRequest(_message.Message):
    __slots__ = ("refresh_token", "everywhere")
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EVERYWHERE_FIELD_NUMBER: _ClassVar[int]
    refresh_token: str
    everywhere: bool
    def __init__(self, refresh_token: _Optional[str] = ..., everywhere: bool = ...) -> None: ...

class LogoutResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ChangePasswordRequest(_message.Message):
    __slots__ = ("old_password", "new_password")
    OLD_PASSWORD_FIELD_NUMBER: _ClassVar[int]
    NEW_PASSWORD_FIELD_NUMBER: _ClassVar[int]
    old_password: str
    new_password: str
    def __init__(self, old_password: _Optional[str] = ..., new_password: _Optional[str] = ...) -> None: ...

class ChangePasswordResponse(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: Tokens
    def __init__(self, tokens: _Optional[_Union[Tokens, _Mapping]] = ...) -> None: ...

class WhoAmIRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WhoAmIResponse(_message.Message):
    __slots__ = ("namespace_id", "namespace_name", "subject", "groups", "guardian", "jti", "expires_at", "namespace_state", "rules", "home_namespace_id", "privileges", "member")
    NAMESPACE_ID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_NAME_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    GUARDIAN_FIELD_NUMBER: _ClassVar[int]
    JTI_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_STATE_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    HOME_NAMESPACE_ID_FIELD_NUMBER: _ClassVar[int]
    PRIVILEGES_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    namespace_id: int
    namespace_name: str
    subject: str
    groups: _containers.RepeatedScalarFieldContainer[str]
    guardian: Guardian
    jti: str
    expires_at: _timestamp_pb2.Timestamp
    namespace_state: _namespaces_pb2.NamespaceState
    rules: _containers.RepeatedCompositeFieldContainer[Rule]
    home_namespace_id: int
    privileges: _containers.RepeatedScalarFieldContainer[Privilege]
    member: bool
    def __init__(self, namespace_id: _Optional[int] = ..., namespace_name: _Optional[str] = ..., subject: _Optional[str] = ..., groups: _Optional[_Iterable[str]] = ..., guardian: _Optional[_Union[Guardian, str]] = ..., jti: _Optional[str] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., namespace_state: _Optional[_Union[_namespaces_pb2.NamespaceState, str]] = ..., rules: _Optional[_Iterable[_Union[Rule, _Mapping]]] = ..., home_namespace_id: _Optional[int] = ..., privileges: _Optional[_Iterable[_Union[Privilege, str]]] = ..., member: bool = ...) -> None: ...

class Rule(_message.Message):
    __slots__ = ("database", "prefix", "read", "write")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    WRITE_FIELD_NUMBER: _ClassVar[int]
    database: int
    prefix: bytes
    read: bool
    write: bool
    def __init__(self, database: _Optional[int] = ..., prefix: _Optional[bytes] = ..., read: bool = ..., write: bool = ...) -> None: ...

class IssueTokenRequest(_message.Message):
    __slots__ = ("subject", "groups", "ttl", "guardian", "namespace")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    GUARDIAN_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    subject: str
    groups: _containers.RepeatedScalarFieldContainer[str]
    ttl: _duration_pb2.Duration
    guardian: Guardian
    namespace: _namespaces_pb2.NamespaceRef
    def __init__(self, subject: _Optional[str] = ..., groups: _Optional[_Iterable[str]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., guardian: _Optional[_Union[Guardian, str]] = ..., namespace: _Optional[_Union[_namespaces_pb2.NamespaceRef, _Mapping]] = ...) -> None: ...

class IssueTokenResponse(_message.Message):
    __slots__ = ("token", "info")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    token: str
    info: ServiceToken
    def __init__(self, token: _Optional[str] = ..., info: _Optional[_Union[ServiceToken, _Mapping]] = ...) -> None: ...

class ServiceToken(_message.Message):
    __slots__ = ("jti", "subject", "groups", "guardian", "issued_at", "expires_at", "issued_by", "revoked")
    JTI_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    GUARDIAN_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    ISSUED_BY_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    jti: str
    subject: str
    groups: _containers.RepeatedScalarFieldContainer[str]
    guardian: Guardian
    issued_at: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    issued_by: str
    revoked: bool
    def __init__(self, jti: _Optional[str] = ..., subject: _Optional[str] = ..., groups: _Optional[_Iterable[str]] = ..., guardian: _Optional[_Union[Guardian, str]] = ..., issued_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., issued_by: _Optional[str] = ..., revoked: bool = ...) -> None: ...

class ListTokensRequest(_message.Message):
    __slots__ = ("namespace", "page_size", "page_token")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    namespace: _namespaces_pb2.NamespaceRef
    page_size: int
    page_token: str
    def __init__(self, namespace: _Optional[_Union[_namespaces_pb2.NamespaceRef, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListTokensResponse(_message.Message):
    __slots__ = ("tokens", "next_page_token")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[ServiceToken]
    next_page_token: str
    def __init__(self, tokens: _Optional[_Iterable[_Union[ServiceToken, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RevokeTokensRequest(_message.Message):
    __slots__ = ("namespace", "jti", "subject", "all", "everyone")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    JTI_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    EVERYONE_FIELD_NUMBER: _ClassVar[int]
    namespace: _namespaces_pb2.NamespaceRef
    jti: str
    subject: str
    all: bool
    everyone: bool
    def __init__(self, namespace: _Optional[_Union[_namespaces_pb2.NamespaceRef, _Mapping]] = ..., jti: _Optional[str] = ..., subject: _Optional[str] = ..., all: bool = ..., everyone: bool = ...) -> None: ...

class RevokeTokensResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SigningKey(_message.Message):
    __slots__ = ("kid", "algorithm", "public_key", "created_at", "verifies_until")
    KID_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    VERIFIES_UNTIL_FIELD_NUMBER: _ClassVar[int]
    kid: str
    algorithm: str
    public_key: bytes
    created_at: _timestamp_pb2.Timestamp
    verifies_until: _timestamp_pb2.Timestamp
    def __init__(self, kid: _Optional[str] = ..., algorithm: _Optional[str] = ..., public_key: _Optional[bytes] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., verifies_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListKeysRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListKeysResponse(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[SigningKey]
    def __init__(self, keys: _Optional[_Iterable[_Union[SigningKey, _Mapping]]] = ...) -> None: ...

class RotateKeyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RotateKeyResponse(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: SigningKey
    def __init__(self, key: _Optional[_Union[SigningKey, _Mapping]] = ...) -> None: ...

class RemoveKeyRequest(_message.Message):
    __slots__ = ("kid",)
    KID_FIELD_NUMBER: _ClassVar[int]
    kid: str
    def __init__(self, kid: _Optional[str] = ...) -> None: ...

class RemoveKeyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
