"""Every rpc the client calls, typed, and the retry policy that gRPC itself carries out.

Reads are repeated by gRPC when the server is not available: that is always safe. Writes are not in the policy; the
few that are safe to repeat are repeated by ``Connection.call_repeatable``, which can tell the caller about doubt.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from prefixdb.errors import PrefixdbError
from prefixdb.v1 import auth_pb2, key_value_pb2, maintenance_pb2, members_pb2, namespaces_pb2, transfer_pb2

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[RequestT, ResponseT]):
    """One rpc: its path, its messages, and whether it changes anything.

    ``writes`` decides what a lost answer means: for a read "try again", for a write "look before you try again".
    ``secret`` marks those whose message may hold a password or a refresh token: they never travel readable.
    ``operation`` is the field of a Pipeline message's operation, and of its result, that stands for this call; "" when
    there is none, or the call is never gathered.
    """

    path: str
    request: type[RequestT]
    response: type[ResponseT]
    writes: bool = False
    secret: bool = False
    operation: str = ""


_KV = "/prefixdb.v1.KeyValue/"
GET = Method(_KV + "Get", key_value_pb2.GetRequest, key_value_pb2.GetResponse, operation="get")
BATCH_GET = Method(_KV + "BatchGet", key_value_pb2.BatchGetRequest, key_value_pb2.BatchGetResponse)
PUT = Method(_KV + "Put", key_value_pb2.PutRequest, key_value_pb2.PutResponse, writes=True, operation="put")
DELETE = Method(
    _KV + "Delete", key_value_pb2.DeleteRequest, key_value_pb2.DeleteResponse, writes=True, operation="delete"
)
WRITE = Method(_KV + "Write", key_value_pb2.WriteRequest, key_value_pb2.WriteResponse, writes=True)
COUNT = Method(_KV + "Count", key_value_pb2.CountRequest, key_value_pb2.CountResponse)
SCAN = Method(_KV + "Scan", key_value_pb2.ScanRequest, key_value_pb2.ScanResponse)
PIPELINE = Method(_KV + "Pipeline", key_value_pb2.PipelineRequest, key_value_pb2.PipelineResponse, writes=True)

_NS = "/prefixdb.v1.Namespaces/"
_ns = namespaces_pb2
CREATE_NAMESPACE = Method(
    _NS + "CreateNamespace", _ns.CreateNamespaceRequest, _ns.CreateNamespaceResponse, writes=True, secret=True
)
GET_NAMESPACE = Method(_NS + "GetNamespace", _ns.GetNamespaceRequest, _ns.GetNamespaceResponse)
LIST_NAMESPACES = Method(_NS + "ListNamespaces", _ns.ListNamespacesRequest, _ns.ListNamespacesResponse)
UPDATE_NAMESPACE = Method(_NS + "UpdateNamespace", _ns.UpdateNamespaceRequest, _ns.UpdateNamespaceResponse, writes=True)
SUSPEND_NAMESPACE = Method(
    _NS + "SuspendNamespace", _ns.SuspendNamespaceRequest, _ns.SuspendNamespaceResponse, writes=True
)
RESUME_NAMESPACE = Method(_NS + "ResumeNamespace", _ns.ResumeNamespaceRequest, _ns.ResumeNamespaceResponse, writes=True)
BAN_NAMESPACE = Method(_NS + "BanNamespace", _ns.BanNamespaceRequest, _ns.BanNamespaceResponse, writes=True)
UNBAN_NAMESPACE = Method(_NS + "UnbanNamespace", _ns.UnbanNamespaceRequest, _ns.UnbanNamespaceResponse, writes=True)
RECLAIM_REPORT = Method(_NS + "ReclaimReport", _ns.ReclaimReportRequest, _ns.ReclaimReportResponse)
WATCH_RECLAIM = Method(_NS + "WatchReclaim", _ns.WatchReclaimRequest, _ns.WatchReclaimResponse)

_AUTH = "/prefixdb.v1.Auth/"
LOGIN = Method(_AUTH + "Login", auth_pb2.LoginRequest, auth_pb2.LoginResponse, secret=True)
"""A repeat logs in a second time and harms nothing, so it counts as a read."""
REFRESH = Method(_AUTH + "Refresh", auth_pb2.RefreshRequest, auth_pb2.RefreshResponse, writes=True, secret=True)
"""Never repeated when it may have arrived: a refresh token that comes twice ends its login."""
EXCHANGE = Method(_AUTH + "Exchange", auth_pb2.ExchangeRequest, auth_pb2.ExchangeResponse)
LOGOUT = Method(_AUTH + "Logout", auth_pb2.LogoutRequest, auth_pb2.LogoutResponse, writes=True, secret=True)
CHANGE_PASSWORD = Method(
    _AUTH + "ChangePassword",
    auth_pb2.ChangePasswordRequest,
    auth_pb2.ChangePasswordResponse,
    writes=True,
    secret=True,
)
WHO_AM_I = Method(_AUTH + "WhoAmI", auth_pb2.WhoAmIRequest, auth_pb2.WhoAmIResponse)
ISSUE_TOKEN = Method(_AUTH + "IssueToken", auth_pb2.IssueTokenRequest, auth_pb2.IssueTokenResponse, writes=True)
LIST_TOKENS = Method(_AUTH + "ListTokens", auth_pb2.ListTokensRequest, auth_pb2.ListTokensResponse)
REVOKE_TOKENS = Method(_AUTH + "RevokeTokens", auth_pb2.RevokeTokensRequest, auth_pb2.RevokeTokensResponse, writes=True)
LIST_KEYS = Method(_AUTH + "ListKeys", auth_pb2.ListKeysRequest, auth_pb2.ListKeysResponse)
ROTATE_KEY = Method(_AUTH + "RotateKey", auth_pb2.RotateKeyRequest, auth_pb2.RotateKeyResponse, writes=True)
REMOVE_KEY = Method(_AUTH + "RemoveKey", auth_pb2.RemoveKeyRequest, auth_pb2.RemoveKeyResponse, writes=True)

_MEMBERS = "/prefixdb.v1.Members/"
_mb = members_pb2
CREATE_MEMBER = Method(
    _MEMBERS + "CreateMember", _mb.CreateMemberRequest, _mb.CreateMemberResponse, writes=True, secret=True
)
GET_MEMBER = Method(_MEMBERS + "GetMember", _mb.GetMemberRequest, _mb.GetMemberResponse)
LIST_MEMBERS = Method(_MEMBERS + "ListMembers", _mb.ListMembersRequest, _mb.ListMembersResponse)
UPDATE_MEMBER = Method(_MEMBERS + "UpdateMember", _mb.UpdateMemberRequest, _mb.UpdateMemberResponse, writes=True)
DELETE_MEMBER = Method(_MEMBERS + "DeleteMember", _mb.DeleteMemberRequest, _mb.DeleteMemberResponse, writes=True)
SET_PASSWORD = Method(
    _MEMBERS + "SetPassword", _mb.SetPasswordRequest, _mb.SetPasswordResponse, writes=True, secret=True
)
CREATE_GROUP = Method(_MEMBERS + "CreateGroup", _mb.CreateGroupRequest, _mb.CreateGroupResponse, writes=True)
GET_GROUP = Method(_MEMBERS + "GetGroup", _mb.GetGroupRequest, _mb.GetGroupResponse)
LIST_GROUPS = Method(_MEMBERS + "ListGroups", _mb.ListGroupsRequest, _mb.ListGroupsResponse)
UPDATE_GROUP = Method(_MEMBERS + "UpdateGroup", _mb.UpdateGroupRequest, _mb.UpdateGroupResponse, writes=True)
DELETE_GROUP = Method(_MEMBERS + "DeleteGroup", _mb.DeleteGroupRequest, _mb.DeleteGroupResponse, writes=True)
SET_GRANT = Method(_MEMBERS + "SetGrant", _mb.SetGrantRequest, _mb.SetGrantResponse, writes=True)
DELETE_GRANT = Method(_MEMBERS + "DeleteGrant", _mb.DeleteGrantRequest, _mb.DeleteGrantResponse, writes=True)
LIST_GRANTS = Method(_MEMBERS + "ListGrants", _mb.ListGrantsRequest, _mb.ListGrantsResponse)

_MAINTENANCE = "/prefixdb.v1.Maintenance/"
STATUS = Method(_MAINTENANCE + "Status", maintenance_pb2.StatusRequest, maintenance_pb2.StatusResponse)
COMPACT = Method(_MAINTENANCE + "Compact", maintenance_pb2.CompactRequest, maintenance_pb2.CompactResponse)
READ_AUDIT = Method(_MAINTENANCE + "ReadAudit", maintenance_pb2.ReadAuditRequest, maintenance_pb2.ReadAuditResponse)

_TRANSFER = "/prefixdb.v1.Transfer/"
_tr = transfer_pb2
BACKUP = Method(_TRANSFER + "Backup", _tr.BackupRequest, _tr.BackupResponse)
LIST_BANS = Method(_TRANSFER + "ListBans", _tr.ListBansRequest, _tr.ListBansResponse)
EXPORT = Method(_TRANSFER + "Export", _tr.ExportRequest, _tr.ExportResponse)
IMPORT = Method(_TRANSFER + "Import", _tr.ImportRequest, _tr.ImportResponse, writes=True)
RESTORE_NAMESPACE = Method(
    _TRANSFER + "RestoreNamespace", _tr.RestoreNamespaceRequest, _tr.RestoreNamespaceResponse, writes=True, secret=True
)
"""Its archive may hold password hashes, as those of a backup and an export with members do; these come as answers."""
CLONE_NAMESPACE = Method(
    _TRANSFER + "CloneNamespace", _tr.CloneNamespaceRequest, _tr.CloneNamespaceResponse, writes=True
)

HEALTH_CHECK_PATH = "/grpc.health.v1.Health/Check"
"""Standard health check. Its messages are one varint field, so no package is needed for them: see ``health_status``."""

HEALTH_NAMES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}

RETRIED_BY_GRPC = (
    GET,
    BATCH_GET,
    COUNT,
    GET_NAMESPACE,
    LIST_NAMESPACES,
    RECLAIM_REPORT,
    WHO_AM_I,
    LIST_TOKENS,
    STATUS,
    LIST_KEYS,
    GET_MEMBER,
    LIST_MEMBERS,
    GET_GROUP,
    LIST_GROUPS,
    LIST_GRANTS,
)
"""Unary reads. Streams are not here: they resume where they were, which gRPC cannot do for them."""


def service_config(attempts: int) -> str:
    """Return the gRPC service config that repeats reads up to ``attempts`` times in all (gRPC caps it at 5)."""
    if attempts < 2:
        return json.dumps({})
    names = [dict(zip(("service", "method"), method.path[1:].split("/"), strict=True)) for method in RETRIED_BY_GRPC]
    policy: dict[str, Any] = {
        "maxAttempts": min(attempts, 5),
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": policy}]})


def backoff_s(attempt: int, failure: PrefixdbError | None = None) -> float:
    """Return how long to wait after the ``attempt``-th try: doubling, with jitter, at least what the server asked."""
    wait_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (attempt - 1))
    asked_ms = failure.retry_after_ms if failure is not None else None
    return float(random.uniform(wait_s / 2, wait_s) + (asked_ms or 0) / 1000)


def health_status(answer: bytes) -> str:
    """Return the name of the status in a ``HealthCheckResponse``: field 1, a varint below 128; absent means 0."""
    if len(answer) == 2 and answer[0] == 0x08:
        return HEALTH_NAMES.get(answer[1], "UNKNOWN")
    return "UNKNOWN"
