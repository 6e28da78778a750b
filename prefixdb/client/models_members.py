"""Members, groups and grants as calls return them. No ``repr`` shows a key."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

from prefixdb.client.encoding import namespace_ref
from prefixdb.client.models_server import instant
from prefixdb.errors import Reason, error
from prefixdb.v1 import auth_pb2, members_pb2


class Privilege(enum.IntEnum):
    """A right over the cluster that a member of namespace 0 can hold; numbers equal ``prefixdb.v1.Privilege``."""

    UNSPECIFIED = 0
    NAMESPACES_USE = 1
    NAMESPACES_EDIT = 2
    AUDIT = 3
    BACKUP = 4

    @classmethod
    def _missing_(cls, value: object) -> Privilege:
        """A privilege that only a newer server knows is UNSPECIFIED here, not a crash."""
        return cls.UNSPECIFIED

    @property
    def label(self) -> str:
        """The privilege as people write it, for example ``namespaces.use``."""
        return self.name.lower().replace("_", ".")

    @classmethod
    def of(cls, label: Privilege | str) -> Privilege:
        """Return the privilege of that label.

        Raises:
            InvalidArgumentError: BAD_FIELD when there is none.
        """
        if isinstance(label, Privilege):
            return label
        for known in cls:
            if known is not cls.UNSPECIFIED and known.label == label:
                return known
        labels = ", ".join(known.label for known in cls if known is not cls.UNSPECIFIED)
        raise error(Reason.BAD_FIELD, f"There is no privilege {label!r}; there are {labels}.")


class GrantEffect(enum.IntEnum):
    """What a grant does; numbers equal ``prefixdb.v1.GrantEffect``."""

    UNSPECIFIED = 0
    ALLOW = 1
    DENY = 2

    @classmethod
    def _missing_(cls, value: object) -> GrantEffect:
        """As for privileges: newer servers may know more."""
        return cls.UNSPECIFIED


class AllNamespaces(enum.Enum):
    """The type of ``ALL``: every namespace but 0, those to come among them."""

    ALL = "all"


class Unchanged(enum.Enum):
    """The type of ``UNCHANGED``: leave it as it is, where None means something else."""

    UNCHANGED = "unchanged"


ALL: Final = AllNamespaces.ALL
UNCHANGED: Final = Unchanged.UNCHANGED
Target: TypeAlias = int | str | AllNamespaces
"""What a grant is for: a namespace by id or name, or ``ALL``."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Permits reading or writing of the keys with a prefix; ``database`` None is every database."""

    database: int | None = None
    prefix: bytes = field(default=b"", repr=False)
    read: bool = False
    write: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """A named list of rules. What no rule permits is denied."""

    name: str
    rules: tuple[Rule, ...]
    built_in: bool


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody who belongs to a namespace.

    privileges, main_namespace_id, main_namespace_name: of members of namespace 0; without a main namespace a login
        lands in namespace 0 itself. The name is empty when the main namespace is gone.
    """

    name: str
    groups: tuple[str, ...]
    disabled: bool
    has_password: bool
    created_at: datetime | None
    updated_at: datetime | None
    password_changed_at: datetime | None
    privileges: tuple[Privilege, ...]
    main_namespace_id: int | None
    main_namespace_name: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What is said about a member of namespace 0 and one namespace; ``namespace_id`` None is every one but 0."""

    member: str
    effect: GrantEffect
    namespace_id: int | None
    namespace_name: str
    groups: tuple[str, ...]
    created_at: datetime | None


def rule_of(message: auth_pb2.Rule) -> Rule:
    """Return one rule."""
    return Rule(message.database if message.HasField("database") else None, message.prefix, message.read, message.write)


def rule_to(rule: Rule) -> auth_pb2.Rule:
    """Return one rule as it travels."""
    return auth_pb2.Rule(database=rule.database, prefix=rule.prefix, read=rule.read, write=rule.write)


def group_of(message: members_pb2.Group) -> Group:
    """Return a group."""
    return Group(message.name, tuple(rule_of(rule) for rule in message.rules), message.built_in)


def member_of(message: members_pb2.Member) -> Member:
    """Return a member."""
    return Member(
        name=message.name,
        groups=tuple(message.groups),
        disabled=message.disabled,
        has_password=message.has_password,
        created_at=instant(message, "created_at"),
        updated_at=instant(message, "updated_at"),
        password_changed_at=instant(message, "password_changed_at"),
        privileges=tuple(Privilege(privilege) for privilege in message.privileges),
        main_namespace_id=message.main_namespace_id if message.HasField("main_namespace_id") else None,
        main_namespace_name=message.main_namespace_name,
    )


def grant_of(message: members_pb2.Grant) -> Grant:
    """Return a grant or a denial."""
    return Grant(
        member=message.member,
        effect=GrantEffect(message.effect),
        namespace_id=message.namespace_id if message.HasField("namespace_id") else None,
        namespace_name=message.namespace_name,
        groups=tuple(message.groups),
        created_at=instant(message, "created_at"),
    )


def privileges_to(privileges: Iterable[Privilege | str]) -> list[str]:
    """Return privileges as they travel.

    Raises:
        InvalidArgumentError: BAD_FIELD for a label that is none.
    """
    return [auth_pb2.Privilege.Name(Privilege.of(item).value) for item in privileges]


def set_target(request: members_pb2.SetGrantRequest | members_pb2.DeleteGrantRequest, target: Target) -> None:
    """Write into a request what a grant is for."""
    if isinstance(target, AllNamespaces):
        request.all = True
    else:
        request.namespace.CopyFrom(namespace_ref(target))
