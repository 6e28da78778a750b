"""Tokens of a login: an access token for one namespace, and the refresh token that the next pair is made from.

Both carry the login's family. Neither is kept anywhere: the login's row knows the one refresh token that has not been
spent, by its jti, and when that row goes every token of the family is dead.

What an access token says about groups and guardian is for people to read; what counts is looked up when it is used.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace

from prefixdb import limits
from prefixdb.catalog.claims import Claims, encode_claims
from prefixdb.catalog.entities import DEFAULT_NAMESPACE_ID, Guardian, LoginRecord, MemberRecord, NamespaceRecord
from prefixdb.catalog.keyring import Keyring
from prefixdb.catalog.policy import GUARDIANS_GROUP
from prefixdb.catalog.revocation import Revocations
from prefixdb.clock import Clock
from prefixdb.errors import Reason, error


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A token and when it ends. A secret: no repr shows it."""

    token: str = field(repr=False)
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class RefreshClaims:
    """What a good refresh token says.

    home: where the member belongs, as it is now.
    jti: of the token; the login's row tells whether it was spent.
    """

    home: NamespaceRecord
    member: str
    family: str
    jti: str


class LoginTokens:
    """Signs tokens of logins. Thread-safe, memory only."""

    def __init__(self, clock: Clock, keyring: Keyring, revocations: Revocations) -> None:
        self._clock = clock
        self._keyring = keyring
        self._revocations = revocations

    def access(
        self, login: LoginRecord, member: MemberRecord, home: NamespaceRecord, target: NamespaceRecord
    ) -> SignedToken:
        """Return an access token for ``target``; whether the member may use it the caller has asked.

        Raises:
            UnauthenticatedError: TOKEN_REVOKED, TOKEN_EXPIRED, the login is over.
            PermissionDeniedError: NOT_PERMITTED, the member of a tenant's namespace is to go to another one.
        """
        guest = home.id != target.id
        if guest and home.id != DEFAULT_NAMESPACE_ID:
            raise error(Reason.NOT_PERMITTED)
        bare = replace(self._claims(login, home, target, limits.ACCESS_TOKEN_S), guest=guest)
        told = bare if guest else replace(bare, groups=member.groups, guardian=_guardian(member, home))
        token = self._keyring.sign(encode_claims(told))
        if len(told.groups) > limits.TOKEN_GROUPS_MAX or len(token) > limits.TOKEN_BYTES_MAX:
            token = self._keyring.sign(encode_claims(bare))
        return SignedToken(token, bare.expires_at_s * 1000)

    def refresh(self, login: LoginRecord, home: NamespaceRecord) -> SignedToken:
        """Return the login's refresh token, the one that its row knows as unspent.

        Raises:
            UnauthenticatedError: TOKEN_REVOKED, TOKEN_EXPIRED, the login is over.
        """
        claims = self._claims(login, home, home, limits.REFRESH_TOKEN_S)
        claims = replace(claims, jti=login.refresh_jti, refresh=True)
        return SignedToken(self._keyring.sign(encode_claims(claims)), claims.expires_at_s * 1000)

    def _claims(self, login: LoginRecord, home: NamespaceRecord, target: NamespaceRecord, lifetime_s: int) -> Claims:
        """Return what both kinds say; neither outlives the login's row."""
        # First of all, so that a revocation from here on is newer than the token; one of before is met below.
        revision = self._revocations.revision
        mark = self._revocations.newest_mark(target.id, login.member, home_id=home.id)
        if login.created_at_ms < mark.at_ms:
            raise error(Reason.TOKEN_REVOKED)
        now_s = self._clock.now_ms() // 1000
        expires_at_s = min(now_s + lifetime_s, login.expires_at_ms // 1000)
        if expires_at_s <= now_s:
            raise error(Reason.TOKEN_EXPIRED)
        return Claims(
            namespace_id=target.id,
            incarnation=target.incarnation,
            subject=login.member,
            jti=secrets.token_hex(16),
            groups=(),
            guardian=Guardian.NONE,
            issued_at_s=now_s,
            expires_at_s=expires_at_s,
            revision=revision,
            family=login.family,
        )


def _guardian(member: MemberRecord, home: NamespaceRecord) -> Guardian:
    if GUARDIANS_GROUP not in member.groups:
        return Guardian.NONE
    return Guardian.CLUSTER if home.id == DEFAULT_NAMESPACE_ID else Guardian.NAMESPACE
