"""Tokens and those who hold them, as calls return them. No ``repr`` shows a secret."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime

from prefixdb.client.models_members import Privilege, Rule, rule_of
from prefixdb.client.models_server import NamespaceState, instant
from prefixdb.v1 import auth_pb2


class GuardianRole(enum.IntEnum):
    """What a token's holder administers; numbers equal ``prefixdb.v1.Guardian``."""

    NONE = 0
    NAMESPACE = 1
    CLUSTER = 2


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the caller is to the server.

    home_namespace_id: where the subject belongs; another than ``namespace_id`` for a guest from namespace 0.
    member: True for somebody who logged in, False for the holder of a service token.
    """

    namespace_id: int
    namespace_name: str
    namespace_state: NamespaceState
    subject: str
    groups: tuple[str, ...]
    guardian: GuardianRole
    jti: str
    expires_at: datetime | None
    rules: tuple[Rule, ...]
    home_namespace_id: int = 0
    privileges: tuple[Privilege, ...] = ()
    member: bool = False


@dataclass(frozen=True, slots=True)
class LoginInfo:
    """A login, without its tokens: who, where it landed, and until when it lives on without being used."""

    user: str
    namespace_id: int
    namespace_name: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """What the server keeps of a token: all but the secret."""

    jti: str
    subject: str
    groups: tuple[str, ...]
    guardian: GuardianRole
    issued_at: datetime | None
    expires_at: datetime | None
    issued_by: str
    revoked: bool


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token: the secret, shown once, and what the server keeps."""

    token: str = field(repr=False)
    info: ServiceToken


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The public half of a key that tokens are verified with. ``verifies_until`` is None for the one that signs."""

    kid: str
    algorithm: str
    public_key: bytes
    created_at: datetime | None
    verifies_until: datetime | None


def service_token_of(message: auth_pb2.ServiceToken) -> ServiceToken:
    """Return what the server keeps of a token."""
    return ServiceToken(
        jti=message.jti,
        subject=message.subject,
        groups=tuple(message.groups),
        guardian=GuardianRole(message.guardian),
        issued_at=instant(message, "issued_at"),
        expires_at=instant(message, "expires_at"),
        issued_by=message.issued_by,
        revoked=message.revoked,
    )


def signing_key_of(message: auth_pb2.SigningKey) -> SigningKey:
    """Return the public half of a key."""
    return SigningKey(
        kid=message.kid,
        algorithm=message.algorithm,
        public_key=message.public_key,
        created_at=instant(message, "created_at"),
        verifies_until=instant(message, "verifies_until"),
    )


def identity_of(message: auth_pb2.WhoAmIResponse) -> Identity:
    """Return who the caller is."""
    return Identity(
        namespace_id=message.namespace_id,
        namespace_name=message.namespace_name,
        namespace_state=NamespaceState(message.namespace_state),
        subject=message.subject,
        groups=tuple(message.groups),
        guardian=GuardianRole(message.guardian),
        jti=message.jti,
        expires_at=instant(message, "expires_at"),
        rules=tuple(rule_of(rule) for rule in message.rules),
        home_namespace_id=message.home_namespace_id,
        privileges=tuple(Privilege(privilege) for privilege in message.privileges),
        member=message.member,
    )
