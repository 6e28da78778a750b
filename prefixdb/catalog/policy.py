"""Who may do what. The only module that decides; everything else asks here and obeys.

Three questions, asked in this order for every call, each default deny:

1. ``check_capability``: may a holder of this session call the method at all? ``catalog.capabilities`` maps every RPC
   to the one capability it needs; a method without a row is refused, and the server does not start while one is
   missing.
2. ``check_state``: is the session's own namespace in a state that allows reading, writing or deleting, and is it still
   the issue of the number that the token was made for?
3. What exactly: ``check_target`` for calls that name a namespace, ``check_read`` and its siblings for keys and ranges,
   ``check_issue`` for tokens.

    capability             member          namespace guardian     cluster guardian (namespace 0 only)
    PUBLIC                 also without a token
    CREDENTIALS            also without a token: the message itself holds the proof
    ANY_TOKEN              yes             yes                    yes
    OWN_PASSWORD           who logged in   who logged in          who logged in
    ROWS_READ, ROWS_WRITE  by group rules  by group rules         by group rules, in namespace 0; else a minted token
    ROWS                   by group rules  by group rules         the same; each key of the call is checked by itself
    EXCHANGE               of namespace 0, by its grants; to other namespaces with the privilege namespaces.use
    MEMBERS                no              its own                those of namespace 0; else a minted token
    GRANTS                 no              no                     yes
    NAMESPACE_VIEW         no              its own                any
    NAMESPACES_LIST        what it may use what it may use        all
    TOKENS                 no              its own                any; into others an hour at most; to revoke those of
                                                                  namespace 0, among them its own, takes one of these
    TOKENS_EVERYONE        no              no                     yes
    NAMESPACES_EDIT        no              no                     yes; a member with the privilege namespaces.edit too
    MAINTENANCE            no              no                     yes
    AUDIT                  no              no                     yes; a member with the privilege audit too
    BACKUP                 no              no                     yes; a member with the privilege backup too
    EXPORT                 by group rules  its own                any; a member with the privilege backup too

Privileges are held by members of namespace 0. They count in tokens for namespace 0, and namespaces.use in all of the
member's tokens: it is the way from one namespace to the next.

Every refusal of a non-cluster caller is the same NOT_PERMITTED, whether its target exists or not.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NoReturn

from prefixdb import limits
from prefixdb.catalog.capabilities import METHODS, Capability
from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    Group,
    Guardian,
    NamespaceRecord,
    NamespaceState,
    Privilege,
    Rule,
)
from prefixdb.catalog.rules import RuleSet, successor
from prefixdb.errors import Reason, error

__all__ = [
    "BUILTIN_GROUPS",
    "BUILTIN_GROUP_NAMES",
    "GUARDIANS_GROUP",
    "METHODS",
    "READERS_GROUP",
    "WRITERS_GROUP",
    "Access",
    "Capability",
    "ExportTarget",
    "Guardian",
    "IssueLimits",
    "Rule",
    "Session",
    "check_capability",
    "check_clone",
    "check_exchange",
    "check_export",
    "check_issue",
    "check_open",
    "check_read",
    "check_read_range",
    "check_revoke",
    "check_state",
    "check_target",
    "check_write",
    "check_write_range",
    "may_read_between",
    "may_switch",
    "sees_every_namespace",
]

GUARDIANS_GROUP = "guardians"
WRITERS_GROUP = "writers"
READERS_GROUP = "readers"

BUILTIN_GROUPS = (
    Group(GUARDIANS_GROUP, (Rule(None, b"", read=True, write=True),)),
    Group(WRITERS_GROUP, (Rule(None, b"", read=True, write=True),)),
    Group(READERS_GROUP, (Rule(None, b"", read=True, write=False),)),
)
"""Groups every namespace is created with. They stay as they are: a member of the first is a guardian."""

BUILTIN_GROUP_NAMES = frozenset(group.name for group in BUILTIN_GROUPS)


@dataclass(frozen=True, slots=True)
class Session:
    """An admitted token: who, where, and what its groups add up to. It never outlives a revocation of its token.

    groups: a member's as they are now, else as the token names them; ``rules`` is what they mean now.
    expires_at_ms: as the token says, without leeway.
    minted: a cluster guardian made the token for a namespace that is not its own.
    revision: newest revocation when the token was issued (see ``catalog.revocation``).
    family: the login the token came from; empty for what nobody logged in for.
    guest: the subject is a member of namespace 0 who uses another namespace.
    privileges: of a member of namespace 0.
    minted_by: the cluster guardian behind a minted token, also when another minted token stands between.
    rule_set: ``rules`` as they are asked.
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
    family: str = ""
    guest: bool = False
    privileges: frozenset[Privilege] = frozenset()
    minted_by: str = ""
    rule_set: RuleSet = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rule_set", RuleSet(self.rules))

    @property
    def home_id(self) -> int:
        """The namespace the subject belongs to."""
        return DEFAULT_NAMESPACE_ID if self.guest else self.namespace_id


class Access(enum.Enum):
    """What a call does to the rows of its namespace. DELETE alone is what READ_ONLY still allows of the writes."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"


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


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """What is to be exported.

    namespace_id: after look-up; None when there is no such namespace.
    database: None for every database; ``prefix`` is empty then.
    members: members and groups as well as rows.
    """

    namespace_id: int | None
    database: int | None = None
    prefix: bytes = b""
    members: bool = False


def check_capability(session: Session | None, capability: Capability) -> None:
    """Return when the session may call methods of this capability at all.

    Args:
        session: the admitted session; None for a call without a token, which PUBLIC methods alone allow.
        capability: the method's row in ``METHODS``.

    Raises:
        UnauthenticatedError: TOKEN_MISSING, no session and the method needs one.
        PermissionDeniedError: NOT_PERMITTED.
    """
    if capability is Capability.PUBLIC or capability is Capability.CREDENTIALS:
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
        NotFoundError: NAMESPACE_NOT_FOUND, to those who may know of every namespace.
        PermissionDeniedError: NOT_PERMITTED; the same for a foreign namespace as for none.
    """
    check_capability(session, capability)
    if _is_cluster_guardian(session) or (capability in _EDITORS and _holds(session, Privilege.NAMESPACES_EDIT)):
        if namespace_id is None:
            raise error(Reason.NAMESPACE_NOT_FOUND)
        return
    if namespace_id is None or namespace_id != session.namespace_id:
        _deny()


def check_clone(session: Session, source_id: int, *, held_back: bool) -> None:
    """Return when the session may make another namespace with the rows of this one.

    What was said about the source is not said about its clone. So whoever is kept out of the source, or may less in it
    than anywhere, must not make one, and the rows of namespace 0, where nobody is let in by a grant, are the cluster
    guardians'.

    Args:
        session: of somebody who may create namespaces, see ``check_target``.
        source_id: the namespace to clone.
        held_back: what was said about the session's member and the source is less than what holds for a new one.

    Raises:
        PermissionDeniedError: NOT_PERMITTED.
    """
    if not _is_cluster_guardian(session) and (held_back or source_id == DEFAULT_NAMESPACE_ID):
        _deny()


def sees_every_namespace(session: Session) -> bool:
    """True when the session may know of every namespace, not only of those it may use."""
    return _is_cluster_guardian(session) or _holds(session, Privilege.NAMESPACES_EDIT)


def check_exchange(session: Session, target: NamespaceRecord | None, *, granted: bool) -> None:
    """Return when the session may be exchanged for one of the target namespace.

    Args:
        session: of a member who logged in.
        target: None when there is no such namespace.
        granted: the member's grants cover the target.

    Raises:
        PermissionDeniedError: NOT_PERMITTED, whatever the cause.
    """
    check_capability(session, Capability.EXCHANGE)
    if target is None:
        _deny()
    if target.id != DEFAULT_NAMESPACE_ID and not (granted and may_switch(session)):
        _deny()


def may_switch(session: Session) -> bool:
    """True when the session's member may go from one namespace to the next, as far as grants let it."""
    return Privilege.NAMESPACES_USE in session.privileges or _is_cluster_guardian(session)


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
    check_open(record)
    if record.state is NamespaceState.READ_ONLY and access is Access.WRITE:
        raise error(Reason.READ_ONLY)


def check_open(record: NamespaceRecord) -> None:
    """Return when the namespace is in a state that lets anybody in.

    Raises:
        NamespaceBannedError, NamespaceSuspendedError: NAMESPACE_BANNED, NAMESPACE_SUSPENDED.
    """
    state = record.state
    if state is NamespaceState.ACTIVE or state is NamespaceState.READ_ONLY:
        return
    if state is NamespaceState.SUSPENDED:
        raise error(Reason.NAMESPACE_SUSPENDED)
    raise error(Reason.NAMESPACE_BANNED)


def check_read(session: Session, database: int, key: bytes) -> None:
    """Return when some rule lets the session read the key, else raise PermissionDeniedError NOT_PERMITTED."""
    if not session.rule_set.may_read(database, key):
        _deny()


def check_write(session: Session, database: int, key: bytes) -> None:
    """Return when some rule lets the session write or delete the key, else raise NOT_PERMITTED."""
    if not session.rule_set.may_write(database, key):
        _deny()


def check_read_range(session: Session, database: int, start: bytes, end: bytes) -> None:
    """Return when one rule lets the session read all of ``start <= key < end``, else raise NOT_PERMITTED.

    Args:
        session: the admitted session.
        database: 0..65535.
        start: user key; empty for the start of the database.
        end: user key; empty for the end of the database.
    """
    if not session.rule_set.may_read_range(database, start, end):
        _deny()


def check_write_range(session: Session, database: int, start: bytes, end: bytes) -> None:
    """Return when one rule lets the session write all of ``start <= key < end`` (bounds as in ``check_read_range``)."""
    if not session.rule_set.may_write_range(database, start, end):
        _deny()


def may_read_between(session: Session, first: tuple[int, bytes], last: tuple[int, bytes]) -> bool:
    """True when the session may read every key from ``first`` to ``last``, each a database and a key, and so may learn
    whether there is one. Databases in between count."""
    if first[0] == last[0]:
        return session.rule_set.may_read_range(first[0], first[1], last[1] + b"\0")
    return _reads_everything(session)


def check_export(session: Session, target: ExportTarget) -> bool:
    """Return when the session may export the target; whether it may by a right over all of it, not by group rules.

    Such an export is an administrative act; one by rules is a scan.

    Raises:
        NotFoundError: NAMESPACE_NOT_FOUND, to those who may export every namespace.
        PermissionDeniedError: NOT_PERMITTED; the same for a foreign namespace as for none.
    """
    check_capability(session, Capability.EXPORT)
    if _may_back_up(session):
        if target.namespace_id is None:
            raise error(Reason.NAMESPACE_NOT_FOUND)
        return True
    if target.namespace_id is None or target.namespace_id != session.namespace_id:
        _deny()
    if session.guardian is Guardian.NAMESPACE and session.namespace_id != DEFAULT_NAMESPACE_ID:
        return True
    if target.members or not _may_read_all(session, target):
        _deny()
    return False


def _may_read_all(session: Session, target: ExportTarget) -> bool:
    if target.database is not None:
        end = successor(target.prefix)
        return session.rule_set.may_read_range(target.database, target.prefix, end)
    return _reads_everything(session)


def _reads_everything(session: Session) -> bool:
    return any(rule.read and rule.database is None and not rule.prefix for rule in session.rules)


def _deny() -> NoReturn:
    raise error(Reason.NOT_PERMITTED)


def _is_cluster_guardian(session: Session) -> bool:
    """True for a guardian of namespace 0 by its own right. The token check refuses the other combinations already;
    here they would be worth the cluster, so they are refused twice."""
    return session.guardian is Guardian.CLUSTER and session.namespace_id == DEFAULT_NAMESPACE_ID and not session.minted


def _holds(session: Session, privilege: Privilege) -> bool:
    """True when the session may use a privilege over the cluster: of a member of namespace 0, in namespace 0."""
    return (
        privilege in session.privileges
        and session.namespace_id == DEFAULT_NAMESPACE_ID
        and bool(session.family)
        and not session.minted
    )


def _may_back_up(session: Session) -> bool:
    """True when the session may read everything there is, for a backup."""
    return _is_cluster_guardian(session) or _holds(session, Privilege.BACKUP)


def _has(session: Session, capability: Capability) -> bool:
    """True when the session has the capability somewhere; a capability that is not named here is nobody's."""
    match capability:
        case Capability.PUBLIC | Capability.CREDENTIALS | Capability.ANY_TOKEN | Capability.NAMESPACES_LIST:
            return True
        case Capability.OWN_PASSWORD:
            return bool(session.family)
        case Capability.EXCHANGE:
            return bool(session.family) and session.home_id == DEFAULT_NAMESPACE_ID
        case Capability.ROWS_READ:
            return session.rule_set.reads
        case Capability.ROWS_WRITE:
            return session.rule_set.writes
        case Capability.ROWS:
            return session.rule_set.reads or session.rule_set.writes
        case Capability.MEMBERS:
            own = session.guardian is Guardian.NAMESPACE and session.namespace_id != DEFAULT_NAMESPACE_ID
            return own or _is_cluster_guardian(session)
        case Capability.TOKENS:
            return session.guardian is Guardian.NAMESPACE or _is_cluster_guardian(session)
        case Capability.NAMESPACE_VIEW:
            return session.guardian is Guardian.NAMESPACE or sees_every_namespace(session)
        case Capability.NAMESPACES_EDIT:
            return sees_every_namespace(session)
        case Capability.AUDIT:
            return _is_cluster_guardian(session) or _holds(session, Privilege.AUDIT)
        case Capability.BACKUP:
            return _may_back_up(session)
        case Capability.EXPORT:
            return session.rule_set.reads or session.guardian is Guardian.NAMESPACE or _may_back_up(session)
        case Capability.TOKENS_EVERYONE | Capability.GRANTS | Capability.MAINTENANCE:
            return _is_cluster_guardian(session)
    return False


_EDITORS = frozenset({Capability.NAMESPACE_VIEW, Capability.NAMESPACES_EDIT})
"""Capabilities that reach every namespace through the privilege namespaces.edit."""
