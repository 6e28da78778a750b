"""What the catalog keeps: namespaces, bans, reclaim reports, groups and service tokens, as plain frozen values.

No behaviour and no imports from the rest of the catalog, so that ``schema`` (bytes), ``policy`` (decisions) and the
registry can all speak of the same things. The integer values of the enums equal those of ``prefixdb.v1`` and are stored
on disk; they never change meaning.

Namespaces and bans are msgspec structs, for there may be hundreds of thousands: made four times as fast as dataclasses,
and left out of every pass of the garbage collector. Change them with ``msgspec.structs.replace``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

DEFAULT_NAMESPACE_ID = 0
"""The namespace that always exists, home of the cluster's guardians and of the catalog."""

DEFAULT_NAMESPACE_NAME = "default"


class NamespaceState(enum.IntEnum):
    """Where a namespace is in its life; equal to ``prefixdb.v1.NamespaceState``."""

    ACTIVE = 1
    READ_ONLY = 2
    SUSPENDED = 3
    BANNED = 4
    RECLAIMED = 5

    @property
    def is_live(self) -> bool:
        """True while the namespace has not been dropped."""
        return self < NamespaceState.BANNED


class Guardian(enum.IntEnum):
    """Whether a token's holder administers its namespace or the cluster; equal to ``prefixdb.v1.Guardian``."""

    NONE = 0
    NAMESPACE = 1
    CLUSTER = 2


class ReclaimPhase(enum.IntEnum):
    """Where a reclaim is; equal to ``prefixdb.v1.ReclaimPhase``."""

    GRACE = 1
    PENDING = 2
    RECLAIMING = 3
    PROVING = 4
    DONE = 5


@dataclass(frozen=True, slots=True)
class Rule:
    """Permits reading or writing of the keys that start with ``prefix``.

    database: None for every database of the namespace.
    prefix: of the user key; empty for every key.
    """

    database: int | None
    prefix: bytes
    read: bool
    write: bool

    def __repr__(self) -> str:
        return f"Rule(database={self.database}, prefix=…, read={self.read}, write={self.write})"


@dataclass(frozen=True, slots=True)
class Group:
    """A named list of rules inside one namespace. What no rule permits is denied."""

    name: str
    rules: tuple[Rule, ...]


class NamespaceRecord(msgspec.Struct, frozen=True, gc=False):
    """One namespace as its row in the catalog says.

    incarnation: version of the commit that created this issue of the id; tokens carry it.
    row_version: version of the commit that last wrote the row; ``Registry.guard`` compares it.
    """

    id: int
    name: str
    state: NamespaceState
    incarnation: int
    labels: Mapping[str, str]
    created_at_ms: int
    updated_at_ms: int
    state_reason: str
    row_version: int


class Ban(msgspec.Struct, frozen=True, gc=False):
    """One record of the ban manifest.

    prior_state, prior_reason: what an unban gives back.
    reclaim_after_ms: end of the grace.
    reclaim_started_at_ms: 0 until the reclaimer has said, durably, that it begins; no unban from then on.
    bytes_before, rows_before: approximate size measured at that moment.
    reclaimed_at_ms: 0 until the proof of emptiness.
    staged: the namespace never lived: it is in the making, or came to nothing (see ``catalog.staging``).
    """

    namespace_id: int
    incarnation: int
    name: str
    banned_at_ms: int
    by: str
    reason: str
    reclaim_after_ms: int
    prior_state: NamespaceState = NamespaceState.ACTIVE
    prior_reason: str = ""
    reclaim_started_at_ms: int = 0
    bytes_before: int = 0
    rows_before: int = 0
    reclaimed_at_ms: int = 0
    staged: bool = False


@dataclass(frozen=True, slots=True)
class ReclaimReport:
    """How far the reclaim of one ban is. Only a report of phase DONE is ever stored, after the proof.

    Times are milliseconds since the epoch, 0 when not yet. ``bytes_total`` and ``bytes_done`` count the files that
    held the namespace, other tenants' shares included; ``bytes_freed`` and ``rows_dropped`` are estimates of the
    namespace's own.
    detail: for a person, what is being waited for; holds no key and no foreign name. Not stored.
    """

    namespace_id: int
    name: str
    incarnation: int
    phase: ReclaimPhase
    banned_at_ms: int
    banned_by: str
    reason: str
    reclaim_after_ms: int
    started_at_ms: int = 0
    finished_at_ms: int = 0
    bytes_total: int = 0
    bytes_done: int = 0
    bytes_freed: int = 0
    rows_dropped: int = 0
    proof_rows_found: int = 0
    proof_bytes_found: int = 0
    detail: str = field(default="", compare=False)


class Privilege(enum.IntEnum):
    """A right over the cluster that a member of namespace 0 holds by itself; equal to ``prefixdb.v1.Privilege``."""

    NAMESPACES_USE = 1
    NAMESPACES_EDIT = 2
    AUDIT = 3
    BACKUP = 4

    @property
    def label(self) -> str:
        """The privilege as people write it, for example ``namespaces.use``."""
        return self.name.lower().replace("_", ".")


@dataclass(frozen=True, slots=True)
class NamespaceIssue:
    """One issue of a namespace's number: what is said about it does not hold for the next one."""

    namespace_id: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """Somebody who belongs to a namespace.

    password_hash: Argon2id in PHC form; empty when nobody can log in.
    main_namespace: where a login of a member of namespace 0 lands; None for namespace 0 itself.
    row_version: version of the commit that last wrote the row.
    """

    name: str
    groups: tuple[str, ...]
    password_hash: str = field(repr=False)
    disabled: bool
    created_at_ms: int
    updated_at_ms: int
    password_changed_at_ms: int
    privileges: tuple[Privilege, ...] = ()
    main_namespace: NamespaceIssue | None = None
    row_version: int = 0

    @property
    def can_log_in(self) -> bool:
        """True when it has a password and is not disabled."""
        return bool(self.password_hash) and not self.disabled


class GrantEffect(enum.IntEnum):
    """What a grant does; equal to ``prefixdb.v1.GrantEffect``."""

    ALLOW = 1
    DENY = 2


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """What is said about one member of namespace 0 and one namespace.

    target: None for every namespace but 0.
    groups: of the target namespace, looked up there; empty with DENY.
    """

    member: str
    target: NamespaceIssue | None
    effect: GrantEffect
    groups: tuple[str, ...]
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """One login: the family of tokens that came from one password.

    family: its id; every token of it carries it.
    refresh_jti: the one refresh token that has not been spent.
    into: the namespace it landed in.
    expires_at_ms: end of the refresh token.
    """

    family: str
    member: str
    refresh_jti: str
    into: NamespaceIssue
    created_at_ms: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class ServiceTokenRecord:
    """What is kept of an issued token: everything but the token itself.

    issued_by: subject and namespace of the guardian who made it, ``subject@id``.
    minted_by: subject of the cluster guardian when the token was minted into a foreign namespace, else empty.
    revision: newest revocation at the moment of issue (see ``catalog.revocation``).
    """

    jti: str
    subject: str
    groups: tuple[str, ...]
    guardian: Guardian
    issued_at_s: int
    expires_at_s: int
    issued_by: str
    minted_by: str = ""
    revision: int = 0
    revoked: bool = False
