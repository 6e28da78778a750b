"""Who may do what. The only module that decides; everything else asks here and obeys.

Three questions, asked in this order for every call, each default deny:

1. ``check_capability``: may a holder of this session call the method at all? ``METHODS`` maps every RPC to the one
   capability it needs; a method without a row is refused, and the server does not start while one is missing.
2. ``check_state``: is the session's own namespace in a state that allows reading, writing or deleting, and is it still
   the issue of the number that the token was made for?
3. What exactly: ``check_target`` for calls that name a namespace, ``check_read`` and its siblings for keys and ranges,
   ``check_issue`` for tokens.

    capability             member          namespace guardian     cluster guardian (namespace 0 only)
    PUBLIC                 also without a token
    ANY_TOKEN              yes             yes                    yes
    ROWS_READ, ROWS_WRITE  by group rules  by group rules         by group rules, in namespace 0; else a minted token
    ROWS                   by group rules  by group rules         the same; each key of the call is checked by itself
    NAMESPACE_VIEW         no              its own                any
    TOKENS                 no              its own                any; into others an hour at most; to revoke those of
                                                                  namespace 0, among them its own, takes one of these
    TOKENS_EVERYONE        no              no                     yes
    NAMESPACES_EDIT        no              no                     yes
    MAINTENANCE            no              no                     yes

Every refusal of a non-cluster caller is the same NOT_PERMITTED, whether its target exists or not.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

from prefixdb import limits
from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    Group,
    Guardian,
    NamespaceRecord,
    NamespaceState,
    Rule,
)
from prefixdb.errors import Reason, error

__all__ = [
    "BUILTIN_GROUPS",
    "GUARDIANS_GROUP",
    "METHODS",
    "READERS_GROUP",
    "WRITERS_GROUP",
    "Access",
    "Capability",
    "Guardian",
    "IssueLimits",
    "Rule",
    "Session",
    "check_capability",
    "check_issue",
    "check_read",
    "check_read_range",
    "check_revoke",
    "check_state",
    "check_target",
    "check_write",
    "check_write_range",
]

GUARDIANS_GROUP = "guardians"
WRITERS_GROUP = "writers"
READERS_GROUP = "readers"

BUILTIN_GROUPS = (
    Group(GUARDIANS_GROUP, (Rule(None, b"", read=True, write=True),)),
    Group(WRITERS_GROUP, (Rule(None, b"", read=True, write=True),)),
    Group(READERS_GROUP, (Rule(None, b"", read=True, write=False),)),
)
"""Groups every namespace is created with."""


@dataclass(frozen=True, slots=True)
class Session:
    """An admitted token: who, where, and what its groups add up to. It never outlives a revocation of its token.

    groups: as the token names them; ``rules`` is what they meant when the token was admitted.
    expires_at_ms: as the token says, without leeway.
    minted: a cluster guardian made the token for a namespace that is not its own.
    revision: newest revocation when the token was issued (see ``catalog.revocation``).
    """

    namespace_id: int
    incarnation: int
    subject: str
    jti: str
    groups: tuple[str, ...]
    guardian: Guardian
    rules: tuple[Rule, ...]
    issued_at_ms: int
    expires_at_ms: int
    minted: bool = False
    revision: int = 0


class Access(enum.Enum):
    """What a call does to the rows of its namespace. DELETE alone is what READ_ONLY still allows of the writes."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"


class Capability(enum.Enum):
    """What a method needs; the table on top of this module says who has it."""

    PUBLIC = "public"
    ANY_TOKEN = "any-token"
    ROWS_READ = "rows-read"
    ROWS_WRITE = "rows-write"
    ROWS = "rows"
    NAMESPACE_VIEW = "namespace-view"
    TOKENS = "tokens"
    TOKENS_EVERYONE = "tokens-everyone"
    NAMESPACES_EDIT = "namespaces-edit"
    MAINTENANCE = "maintenance"


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
        _PACKAGE + "Namespaces/ListNamespaces": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Namespaces/UpdateNamespace": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Namespaces/SuspendNamespace": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Namespaces/ResumeNamespace": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Namespaces/BanNamespace": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Namespaces/UnbanNamespace": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Namespaces/ReclaimReport": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Namespaces/WatchReclaim": Capability.NAMESPACES_EDIT,
        _PACKAGE + "Auth/WhoAmI": Capability.ANY_TOKEN,
        _PACKAGE + "Auth/IssueToken": Capability.TOKENS,
        _PACKAGE + "Auth/ListTokens": Capability.TOKENS,
        _PACKAGE + "Auth/RevokeTokens": Capability.TOKENS,
        _PACKAGE + "Auth/ListKeys": Capability.MAINTENANCE,
        _PACKAGE + "Auth/RotateKey": Capability.MAINTENANCE,
        _PACKAGE + "Maintenance/Status": Capability.MAINTENANCE,
        _PACKAGE + "Maintenance/Compact": Capability.MAINTENANCE,
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


@dataclass(frozen=True, slots=True)
class IssueLimits:
    """What a permitted issue of a token is bound to.

    ttl_s_max: longest lifetime, seconds.
    expires_at_ms_max: latest end, or 0 for no bound but the lifetime.
    minted: the token must be marked as minted.
    """

    ttl_s_max: int
    expires_at_ms_max: int = 0
    minted: bool = False


def check_capability(session: Session | None, capability: Capability) -> None:
    """Return when the session may call methods of this capability at all.

    Args:
        session: the admitted session; None for a call without a token, which PUBLIC methods alone allow.
        capability: the method's row in ``METHODS``.

    Raises:
        UnauthenticatedError: TOKEN_MISSING, no session and the method is not public.
        PermissionDeniedError: NOT_PERMITTED.
    """
    if capability is Capability.PUBLIC:
        return
    if session is None:
        raise error(Reason.TOKEN_MISSING)
    if not _has(session, capability):
        _deny()


def check_target(session: Session, capability: Capability, namespace_id: int | None) -> None:
    """Return when the session may use ``capability`` on the namespace.

    Args:
        session: the admitted session.
        capability: of the method.
        namespace_id: the namespace the request names, after look-up; None when there is none.

    Raises:
        NotFoundError: NAMESPACE_NOT_FOUND, to cluster guardians only.
        PermissionDeniedError: NOT_PERMITTED; the same for a foreign namespace as for none.
    """
    check_capability(session, capability)
    if _is_cluster_guardian(session):
        if namespace_id is None:
            raise error(Reason.NAMESPACE_NOT_FOUND)
        return
    if namespace_id is None or namespace_id != session.namespace_id:
        _deny()


def check_issue(session: Session, namespace_id: int | None, guardian: Guardian) -> IssueLimits:
    """Return the bounds under which the session may issue a token for the namespace.

    A minted token must not be a way around its own hour: what it issues is minted too and ends with it.

    Args:
        session: the guardian who asks.
        namespace_id: where the token is to be valid; None when there is no such namespace.
        guardian: what the token's holder is to be.

    Raises:
        NotFoundError: NAMESPACE_NOT_FOUND, to cluster guardians only.
        PermissionDeniedError: NOT_PERMITTED.
    """
    check_target(session, Capability.TOKENS, namespace_id)
    if guardian is Guardian.CLUSTER and not (_is_cluster_guardian(session) and namespace_id == DEFAULT_NAMESPACE_ID):
        _deny()
    if session.minted:
        return IssueLimits(limits.MINTED_TOKEN_S_MAX, session.expires_at_ms, minted=True)
    if namespace_id != session.namespace_id:
        return IssueLimits(limits.MINTED_TOKEN_S_MAX, minted=True)
    return IssueLimits(limits.SERVICE_TOKEN_S_MAX)


def check_revoke(session: Session, namespace_id: int | None) -> None:
    """Return when the session may revoke tokens of the namespace.

    Those of namespace 0 are the cluster guardians' too: who is less than they must not lock them out.

    Raises:
        NotFoundError: NAMESPACE_NOT_FOUND, to cluster guardians only.
        PermissionDeniedError: NOT_PERMITTED.
    """
    check_target(session, Capability.TOKENS, namespace_id)
    if namespace_id == DEFAULT_NAMESPACE_ID and not _is_cluster_guardian(session):
        _deny()


def check_state(record: NamespaceRecord | None, session: Session, access: Access) -> None:
    """Return when the session's own namespace is in a state that allows ``access``.

    Args:
        record: the registry's record of ``session.namespace_id`` now; None when there is none.
        session: the admitted session.
        access: what the call does; READ for calls that touch no rows.

    Raises:
        UnauthenticatedError: TOKEN_INVALID, the token is for no namespace or for an earlier issue of the number.
        NamespaceBannedError, NamespaceSuspendedError: NAMESPACE_BANNED, NAMESPACE_SUSPENDED.
        FailedPreconditionError: READ_ONLY, a write other than a delete.
    """
    if record is None or record.id != session.namespace_id or record.incarnation != session.incarnation:
        raise error(Reason.TOKEN_INVALID)
    state = record.state
    if state is NamespaceState.ACTIVE:
        return
    if state is NamespaceState.READ_ONLY:
        if access is Access.WRITE:
            raise error(Reason.READ_ONLY)
        return
    if state is NamespaceState.SUSPENDED:
        raise error(Reason.NAMESPACE_SUSPENDED)
    raise error(Reason.NAMESPACE_BANNED)


def check_read(session: Session, database: int, key: bytes) -> None:
    """Return when some rule lets the session read the key, else raise PermissionDeniedError NOT_PERMITTED."""
    for rule in session.rules:
        if rule.read and (rule.database is None or rule.database == database) and key.startswith(rule.prefix):
            return
    _deny()


def check_write(session: Session, database: int, key: bytes) -> None:
    """Return when some rule lets the session write or delete the key, else raise NOT_PERMITTED."""
    for rule in session.rules:
        if rule.write and (rule.database is None or rule.database == database) and key.startswith(rule.prefix):
            return
    _deny()


def check_read_range(session: Session, database: int, start: bytes, end: bytes) -> None:
    """Return when one rule lets the session read all of ``start <= key < end``, else raise NOT_PERMITTED.

    Args:
        session: the admitted session.
        database: 0..65535.
        start: user key; empty for the start of the database.
        end: user key; empty for the end of the database.
    """
    for rule in session.rules:
        if rule.read and _covers(rule, database, start, end):
            return
    _deny()


def check_write_range(session: Session, database: int, start: bytes, end: bytes) -> None:
    """Return when one rule lets the session write all of ``start <= key < end`` (bounds as in ``check_read_range``)."""
    for rule in session.rules:
        if rule.write and _covers(rule, database, start, end):
            return
    _deny()


def _deny() -> NoReturn:
    raise error(Reason.NOT_PERMITTED)


def _is_cluster_guardian(session: Session) -> bool:
    """True for a guardian of namespace 0 by its own right. The token check refuses the other combinations already;
    here they would be worth the cluster, so they are refused twice."""
    return session.guardian is Guardian.CLUSTER and session.namespace_id == DEFAULT_NAMESPACE_ID and not session.minted


def _has(session: Session, capability: Capability) -> bool:
    """True when the session has the capability somewhere; a capability that is not named here is nobody's."""
    match capability:
        case Capability.PUBLIC | Capability.ANY_TOKEN:
            return True
        case Capability.ROWS_READ:
            return any(rule.read for rule in session.rules)
        case Capability.ROWS_WRITE:
            return any(rule.write for rule in session.rules)
        case Capability.ROWS:
            return any(rule.read or rule.write for rule in session.rules)
        case Capability.NAMESPACE_VIEW | Capability.TOKENS:
            return session.guardian is Guardian.NAMESPACE or _is_cluster_guardian(session)
        case Capability.TOKENS_EVERYONE | Capability.NAMESPACES_EDIT | Capability.MAINTENANCE:
            return _is_cluster_guardian(session)
    return False


def _covers(rule: Rule, database: int, start: bytes, end: bytes) -> bool:
    """True when every key of the range starts with the rule's prefix, decided by the bounds alone.

    The keys with prefix p are exactly p <= key < successor(p), and successor is unbounded when p is empty or all 0xff.
    """
    if rule.database is not None and rule.database != database:
        return False
    if start < rule.prefix:
        return False
    stop = _successor(rule.prefix)
    return not stop or (bool(end) and end <= stop)


def _successor(prefix: bytes) -> bytes:
    """Return the smallest key above all keys with ``prefix``; empty when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b""
