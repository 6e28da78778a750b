"""Which capability each method needs. Who has which stands in ``catalog.policy``; a method without a row is refused."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["METHODS", "Capability"]


class Capability(enum.Enum):
    """What a method needs; ``catalog.policy`` says who has it."""

    PUBLIC = "public"
    CREDENTIALS = "credentials"
    ANY_TOKEN = "any-token"
    OWN_PASSWORD = "own-password"
    EXCHANGE = "exchange"
    ROWS_READ = "rows-read"
    ROWS_WRITE = "rows-write"
    ROWS = "rows"
    MEMBERS = "members"
    GRANTS = "grants"
    NAMESPACE_VIEW = "namespace-view"
    NAMESPACES_LIST = "namespaces-list"
    TOKENS = "tokens"
    TOKENS_EVERYONE = "tokens-everyone"
    NAMESPACES_EDIT = "namespaces-edit"
    MAINTENANCE = "maintenance"
    AUDIT = "audit"
    BACKUP = "backup"
    EXPORT = "export"


_PACKAGE = "/prefixdb.v1."

METHODS: Mapping[str, Capability] = MappingProxyType(
    {
        _PACKAGE + "KeyValue/Get": Capability.ROWS_READ,
        _PACKAGE + "KeyValue/BatchGet": Capability.ROWS_READ,
        _PACKAGE + "KeyValue/Put": Capability.ROWS_WRITE,
        _PACKAGE + "KeyValue/Delete": Capability.ROWS_WRITE,
        _PACKAGE + "KeyValue/Write": Capability.ROWS,
        _PACKAGE + "KeyValue/Scan": Capability.ROWS_READ,
        _PACKAGE + "KeyValue/Count": Capability.ROWS_READ,
        _PACKAGE + "KeyValue/Pipeline": Capability.ROWS,
        _PACKAGE + "Namespaces/CreateNamespace": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Namespaces/GetNamespace": Capability.NAMESPACE_VIEW,
        _PACKAGE + "Namespaces/ListNamespaces": Capability.NAMESPACES_LIST,
        _PACKAGE + "Namespaces/UpdateNamespace": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Namespaces/SuspendNamespace": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Namespaces/ResumeNamespace": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Namespaces/BanNamespace": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Namespaces/UnbanNamespace": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Namespaces/ReclaimReport": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Namespaces/WatchReclaim": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Auth/Login": Capability.CREDENTIALS,
        _PACKAGE + "Auth/Refresh": Capability.CREDENTIALS,
        _PACKAGE + "Auth/Logout": Capability.CREDENTIALS,
        _PACKAGE + "Auth/Exchange": Capability.EXCHANGE,
        _PACKAGE + "Auth/ChangePassword": Capability.OWN_PASSWORD,
        _PACKAGE + "Auth/WhoAmI": Capability.ANY_TOKEN,
        _PACKAGE + "Auth/IssueToken": Capability.TOKENS,
        _PACKAGE + "Auth/ListTokens": Capability.TOKENS,
        _PACKAGE + "Auth/RevokeTokens": Capability.TOKENS,
        _PACKAGE + "Auth/ListKeys": Capability.MAINTENANCE,
        _PACKAGE + "Auth/RotateKey": Capability.MAINTENANCE,
        _PACKAGE + "Auth/RemoveKey": Capability.MAINTENANCE,
        _PACKAGE + "Members/CreateMember": Capability.MEMBERS,
        _PACKAGE + "Members/GetMember": Capability.MEMBERS,
        _PACKAGE + "Members/ListMembers": Capability.MEMBERS,
        _PACKAGE + "Members/UpdateMember": Capability.MEMBERS,
        _PACKAGE + "Members/DeleteMember": Capability.MEMBERS,
        _PACKAGE + "Members/SetPassword": Capability.MEMBERS,
        _PACKAGE + "Members/CreateGroup": Capability.MEMBERS,
        _PACKAGE + "Members/GetGroup": Capability.MEMBERS,
        _PACKAGE + "Members/ListGroups": Capability.MEMBERS,
        _PACKAGE + "Members/UpdateGroup": Capability.MEMBERS,
        _PACKAGE + "Members/DeleteGroup": Capability.MEMBERS,
        _PACKAGE + "Members/SetGrant": Capability.GRANTS,
        _PACKAGE + "Members/DeleteGrant": Capability.GRANTS,
        _PACKAGE + "Members/ListGrants": Capability.GRANTS,
        _PACKAGE + "Maintenance/Status": Capability.MAINTENANCE,
        _PACKAGE + "Maintenance/Compact": Capability.MAINTENANCE,
        _PACKAGE + "Maintenance/ReadAudit": Capability.AUDIT,
        _PACKAGE + "Transfer/Backup": Capability.BACKUP,
        _PACKAGE + "Transfer/ListBans": Capability.BACKUP,
        _PACKAGE + "Transfer/Export": Capability.EXPORT,
        _PACKAGE + "Transfer/Import": Capability.ROWS_WRITE,
        _PACKAGE + "Transfer/RestoreNamespace": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Transfer/CloneNamespace": Capability.NAMESPACES_EDIT,
        # Health says only whether the server serves. Reflection shows the published .proto files; the server registers
        # it on loopback or on demand only.
        "/grpc.health.v1.Health/Check": Capability.PUBLIC,
        "/grpc.health.v1.Health/Watch": Capability.PUBLIC,
        "/grpc.health.v1.Health/List": Capability.PUBLIC,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Capability.PUBLIC,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Capability.PUBLIC,
    }
)
"""Full method name to the one capability it needs. A method that is not here is refused."""
